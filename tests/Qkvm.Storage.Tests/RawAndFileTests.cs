using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.File;

namespace Qkvm.Storage.Tests;

public sealed class RawAndFileTests : IDisposable
{
    readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Theory]
    [InlineData("writeback")] [InlineData("none")]
    public async Task Pieces_of_any_size_and_place_are_read_and_written(string cache)
    {
        const int size = 1 << 20;
        File.WriteAllBytes(_scratch["a.img"], new byte[size]);
        await using BlockDriver image = _scratch.Open("a.img", $"format=raw,cache={cache}");
        var random = new Random(3);
        var model = new byte[size];
        for (int i = 0; i < 100; i++)
        {
            int at = random.Next(size - 40000), length = random.Next(1, 40000);
            var pieces = new List<Memory<byte>>();
            for (int left = length; left > 0;)
            {
                int piece = Math.Min(left, random.Next(1, 20));
                if (random.Next(3) == 0) piece = Math.Min(left, 4096);
                pieces.Add(BlockDriverExtensions.Pattern(random.Next(), piece + 7).AsMemory(7));
                left -= piece;
            }
            await image.WriteAsync(at, new ScatterList(pieces));
            new ScatterList(pieces).CopyTo(model.AsSpan(at));
        }
        Assert.Equal(model, await image.Read(0, size));
        Assert.Equal(model[513..70001], await image.Read(513, 70001 - 513));
    }

    [Fact]
    public async Task A_window_keeps_to_its_bytes()
    {
        byte[] data = BlockDriverExtensions.Pattern(1, 8192);
        File.WriteAllBytes(_scratch["a.img"], data);
        await using BlockDriver image = _scratch.Open("a.img", "format=raw,offset=1024,size=2k");
        Assert.Equal(2048, image.Length);
        Assert.Equal(data[1024..3072], await image.Read(0, 2048));
        await image.Write(1536, new byte[512]);
        Assert.Equal(22, (await Assert.ThrowsAsync<BlockException>(() => image.Write(1537, new byte[512]))).Errno);
        Assert.Equal(22, (await Assert.ThrowsAsync<BlockException>(() => image.Read(-512, 512))).Errno);
        Assert.Equal(22, (await Assert.ThrowsAsync<BlockException>(() => image.Read(long.MaxValue, 512))).Errno);
        data.AsSpan(2560, 512).Clear();
        Assert.Equal(data, File.ReadAllBytes(_scratch["a.img"]));
    }

    [Fact]
    public async Task The_last_sector_of_an_odd_file_is_filled_up_with_zeros()
    {
        File.WriteAllBytes(_scratch["a.img"], BlockDriverExtensions.Pattern(1, 700));
        await using BlockDriver image = _scratch.Open("a.img", "format=raw");
        Assert.Equal(1024, image.Length);
        Assert.Equal(BlockDriverExtensions.Pattern(1, 700).Concat(new byte[324]), await image.Read(0, 1024));
        await image.Write(512, BlockDriverExtensions.Pattern(2, 512));
        Assert.Equal(1024, new FileInfo(_scratch["a.img"]).Length);
    }

    [Fact]
    public async Task A_read_only_image_takes_no_writes()
    {
        File.WriteAllBytes(_scratch["a.img"], new byte[4096]);
        await using BlockDriver image = _scratch.Open("a.img", "format=raw,readonly=on");
        Assert.Equal(1, (await Assert.ThrowsAsync<BlockException>(() => image.Write(0, new byte[512]))).Errno);
        Assert.Equal(1, (await Assert.ThrowsAsync<BlockException>(() => image.DiscardAsync(0, 512).AsTask())).Errno);
        Assert.Equal(1, (await Assert.ThrowsAsync<BlockException>(() => image.WriteZeroesAsync(0, 512, true).AsTask()))
            .Errno);
    }

    [Fact]
    public async Task Discard_gives_space_back_only_where_the_user_said_so()
    {
        foreach ((string options, bool frees) in new[] { ("format=raw", false), ("format=raw,discard=unmap", true) })
        {
            File.WriteAllBytes(_scratch["a.img"], BlockDriverExtensions.Pattern(1, 1 << 20));
            await using BlockDriver image = _scratch.Open("a.img", options);
            await image.DiscardAsync(0, 1 << 19);
            Assert.Equal(frees, (await image.Read(0, 1 << 19)).All(b => b == 0));
            await image.WriteZeroesAsync(4096, 1 << 19, mayUnmap: true);
            Assert.Equal(new byte[1 << 19], await image.Read(4096, 1 << 19));
            Assert.Equal(1 << 20, new FileInfo(_scratch["a.img"]).Length);
        }
    }

    [Fact]
    public async Task A_full_file_system_is_reported_as_such()
    {
        Assert.True(File.Exists("/dev/full"));
        using Qkvm.Host.HostFile host = Qkvm.Host.HostFile.Open("/dev/full", Qkvm.Host.Libc.ORdWr, out _)!;
        await using var file = new Drivers.File.FileDriver(host, new NodeOptions());
        file.AllowGrowth();
        Assert.Equal(28, (await Assert.ThrowsAsync<BlockException>(() => file.Write(0, new byte[512]))).Errno);
    }
}
