using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Raw;

namespace Qkvm.Storage.Tests;

/// <summary>Forced unit access: what is written is on stable storage when the write completes.</summary>
public class ForcedWriteTests
{
    static readonly byte[] Data = BlockDriverExtensions.Pattern(7, 4096);

    [Fact]
    public async Task A_raw_node_asks_its_file_and_a_file_without_such_a_write_is_flushed()
    {
        var file = new MemoryFile(new byte[1 << 20]);
        await using var raw = new RawDriver(file, new NodeOptions(), offset: 512);
        await raw.WriteAsync(1024, new ScatterList(Data), WriteFlags.Fua);
        Assert.Equal([1536L, 0L], file.Log.Select(write => write.Offset));
        Assert.Null(file.Log[^1].Data);
        file.Log.Clear();
        await raw.WriteAsync(1024, new ScatterList(Data), WriteFlags.None);
        Assert.Single(file.Log);
    }

    /// <summary>Also where the data lies: the tables that an earlier write left in memory are written first.</summary>
    [Fact]
    public async Task A_forced_write_to_a_qcow2_image_outlives_a_crash()
    {
        var file = new MemoryFile([]);
        await Qcow2Image.FormatAsync(file, "image", 1 << 20, new Qcow2CreateOptions());
        await using var node = new Qcow2Driver(file, "image", new NodeOptions(), static _ => null);
        await node.WriteAsync(0, new ScatterList(Data));
        await node.WriteAsync(4096, new ScatterList(Data), WriteFlags.Fua);
        Assert.Null(file.Log[^1].Data);
        var after = new MemoryFile(file.Contents);
        await using var reopened = new Qcow2Driver(after, "image",
            new NodeOptions { ReadOnly = true }, static _ => null);
        Assert.Equal(Data, await reopened.Read(4096, Data.Length));
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public async Task A_file_of_the_host_takes_forced_writes_of_many_pieces(bool noFlush)
    {
        using var scratch = new Scratch();
        HostFile host = HostFile.Open(scratch["file"], Libc.ORdWr | Libc.OCreat, out _)!;
        await using var file = new FileDriver(host, new NodeOptions(), noFlush);
        file.AllowGrowth();
        Memory<byte>[] pieces = [.. Enumerable.Range(0, 2000).Select(i => Data.AsMemory(i, 3))];
        await file.WriteAsync(10, new ScatterList(pieces), WriteFlags.Fua);
        Assert.Equal(6010, file.Length);
        Assert.Equal(pieces.SelectMany(piece => piece.ToArray()), await file.Read(10, 6000));
    }
}
