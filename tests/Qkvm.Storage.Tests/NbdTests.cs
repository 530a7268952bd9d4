using Qkvm.Core.Block;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Tests;

/// <summary>Driver and server of NBD with each other.</summary>
public class NbdTests
{
    const int Megabyte = 1 << 20;

    [Theory]
    [InlineData("raw")] [InlineData("qcow2")]
    public async Task What_is_written_reads_back_through_the_server_and_lies_in_the_image(string format)
    {
        using var bench = new NbdBench();
        await MakeImage(bench, format);
        bench.Serve("disk", format);
        byte[] model = new byte[8 * Megabyte];
        var random = new Random(7);
        BlockDriver disk = bench.Client();
        Assert.Equal(model.Length, disk.Length);
        for (int i = 0; i < 60; i++)
        {
            int offset = random.Next(model.Length - 1),
                length = Math.Min(random.Next(1, 3 * Megabyte), model.Length - offset);
            switch (random.Next(4))
            {
                case 0:
                    await disk.WriteZeroesAsync(offset, length, mayUnmap: random.Next(2) == 0);
                    model.AsSpan(offset, length).Clear();
                    break;
                case 1: Assert.Equal(model[offset..(offset + length)], await disk.Read(offset, length)); break;
                default:
                    byte[] data = BlockDriverExtensions.Pattern(i, length);
                    await disk.Write(offset, data);
                    data.CopyTo(model, offset);
                    break;
            }
        }
        await disk.FlushAsync();
        Assert.Equal(model, await disk.Read(0, model.Length));
        await disk.DisposeAsync();
        await using BlockDriver image = NbdBench.Factory().OpenImage(bench.Scratch["disk"],
            new Qkvm.Storage.Graph.ImageOpening(format) { ForceShare = true });
        Assert.Equal(model, await image.Read(0, model.Length));
    }

    static async Task MakeImage(NbdBench bench, string format)
    {
        await using var file = NbdBench.Factory().CreateFile(bench.Scratch["disk"]);
        if (format == "raw") await file.ResizeAsync(8 * Megabyte);
        else
            await Qkvm.Storage.Drivers.Qcow2.Qcow2Image.FormatAsync(file, bench.Scratch["disk"], 8 * Megabyte,
                new Qkvm.Storage.Drivers.Qcow2.Qcow2CreateOptions());
    }

    [Fact]
    public async Task Many_requests_of_one_connection_run_at_the_same_time_and_each_gets_its_own_data()
    {
        using var bench = new NbdBench();
        await MakeImage(bench, "raw");
        bench.Serve("disk");
        await using BlockDriver disk = bench.Client();
        await Task.WhenAll(Enumerable.Range(0, 500).Select(i => Task.Run(async () =>
        {
            byte[] data = BlockDriverExtensions.Pattern(i, 16_000);
            await disk.Write(i * 16_384, data);
            Assert.Equal(data, await disk.Read(i * 16_384, data.Length));
        })));
    }

    [Fact]
    public async Task Block_status_tells_holes_from_data()
    {
        using var bench = new NbdBench();
        await MakeImage(bench, "qcow2");
        bench.Serve("disk", "qcow2");
        await using BlockDriver disk = bench.Client();
        await disk.Write(Megabyte, new byte[65_536]);
        await disk.Write(2 * Megabyte, BlockDriverExtensions.Pattern(1, 65_536));
        BlockStatus hole = await disk.StatusAsync(0, disk.Length),
            data = await disk.StatusAsync(2 * Megabyte, Megabyte);
        Assert.Equal((Megabyte, false, true), (hole.Length, hole.IsData, hole.IsZero));
        Assert.Equal((65_536, true, false), (data.Length, data.IsData, data.IsZero));
    }

    [Fact]
    public async Task A_read_only_export_is_read_only()
    {
        using var bench = new NbdBench();
        await MakeImage(bench, "raw");
        bench.Serve("disk", isWritable: false);
        var e = Assert.Throws<ConfigurationException>(() => bench.Client());
        Assert.Contains("request on write denied without write permission", e.Message);
        await using BlockDriver disk = bench.Client(",auto-read-only=on");
        Assert.True(disk.IsReadOnly);
        Assert.Equal(new byte[512], await disk.Read(0, 512));
    }

    [Theory]
    [InlineData(",export=other", "Requested export not available\nserver reported: export 'other' not present")]
    [InlineData(",host=h", "Cannot use 'server' and path/host/port at the same time")]
    [InlineData(",tls-creds=t", "No TLS credentials with id 't'")]
    public async Task What_cannot_be_opened_says_why(string options, string why)
    {
        using var bench = new NbdBench();
        await MakeImage(bench, "raw");
        bench.Serve("disk");
        Assert.Contains(why, Assert.Throws<ConfigurationException>(() => bench.Client(options)).Message);
    }

    [Fact]
    public void Nobody_listens_is_told_with_the_address()
    {
        using var scratch = new Scratch();
        var e = Assert.Throws<ConfigurationException>(() => NbdBench.Client(scratch["none"], ""));
        Assert.Contains($"Failed to connect to '{scratch["none"]}': No such file or directory", e.Message);
    }

    [Fact]
    public async Task A_lost_connection_is_made_again_and_requests_go_on()
    {
        using var bench = new NbdBench();
        await MakeImage(bench, "raw");
        NbdExport export = bench.Serve("disk");
        await using BlockDriver patient = bench.Client(",reconnect-delay=20");
        await using BlockDriver hasty = bench.Client();
        byte[] data = BlockDriverExtensions.Pattern(3, 4096);
        await patient.Write(0, data);
        bench.Server.Remove(export);
        await export.CloseAsync();
        Task<byte[]> waiting = Task.Run(() => patient.Read(0, 4096));
        Assert.Equal(5, (await Assert.ThrowsAsync<BlockException>(() => hasty.Read(0, 4096))).Errno);
        bench.Serve("disk");
        Assert.Equal(data, await waiting);
        Assert.Equal(data, await hasty.Read(0, 4096));
    }

    [Fact]
    public async Task A_pause_of_the_export_holds_requests_back_until_it_ends()
    {
        using var bench = new NbdBench();
        await MakeImage(bench, "raw");
        IBlockUser export = bench.Serve("disk");
        await using BlockDriver disk = bench.Client();
        Action resume = await export.PauseAsync();
        Task<byte[]> read = Task.Run(() => disk.Read(0, 512));
        await Task.Delay(50);
        Assert.False(read.IsCompleted);
        resume();
        Assert.Equal(new byte[512], await read);
    }
}
