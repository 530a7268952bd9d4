using Qkvm.Core.Block;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;
using System.Text.Json;

namespace Qkvm.Storage.Tests;

/// <summary>What nodes say of their bytes, beside what qemu-img says of the same images.</summary>
public class StatusTests
{
    readonly record struct Run(long Start, long Length, bool IsData, bool IsZero);

    static async Task<List<Run>> Map(BlockDriver node)
    {
        List<Run> runs = [];
        for (long offset = 0; offset < node.Length;)
        {
            BlockStatus status = (await ChainStatus.OfImageAsync(node, offset, node.Length - offset)).Status;
            Assert.InRange(status.Length, 1, node.Length - offset);
            runs.Add(new Run(offset, status.Length, status.IsData, status.IsZero));
            offset += status.Length;
        }
        return Merged(runs);
    }

    static List<Run> Reference(string path, string format) => Merged([.. JsonDocument.Parse(QemuTools.Img("map",
        "--output=json", "-f", format, path)).RootElement.EnumerateArray().Select(run => new Run(
            run.GetProperty("start").GetInt64(), run.GetProperty("length").GetInt64(),
            run.GetProperty("data").GetBoolean(), run.GetProperty("zero").GetBoolean()))]);

    static List<Run> Merged(List<Run> runs)
    {
        List<Run> merged = [];
        foreach (Run run in runs)
            if (merged.Count > 0 && merged[^1] is var last && (last.IsData, last.IsZero) == (run.IsData, run.IsZero))
                merged[^1] = last with { Length = last.Length + run.Length };
            else merged.Add(run);
        return merged;
    }

    [QemuTheory]
    [InlineData("cluster_size=64k")] [InlineData("cluster_size=4k")] [InlineData("cluster_size=64k,extended_l2=on")]
    public async Task A_chain_is_mapped_as_qemu_img_maps_it(string options)
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "qcow2", scratch["base.qcow2"], "2M");
        QemuTools.Io(scratch["base.qcow2"], "write 256k 512k", "write -z 1M 128k");
        QemuTools.Img("create", "-q", "-f", "qcow2", "-b", scratch["base.qcow2"], "-F", "qcow2", "-o", options,
            scratch["top.qcow2"], "3M");
        QemuTools.Io(scratch["top.qcow2"], "write 0 64k", "write -z 320k 64k", "write 2560k 64k", "write 1536k 4k");
        List<Run> expected = Reference(scratch["top.qcow2"], "qcow2");
        await using BlockDriver top = scratch.Open("top.qcow2");
        Assert.Equal(expected, await Map(top));
    }

    /// <summary>What it remembers of the file's data does not outlive them.</summary>
    [Fact]
    public async Task Holes_that_come_where_data_were_are_seen()
    {
        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["a.img"], BlockDriverExtensions.Pattern(1, 1 << 20));
        await using BlockDriver disk = scratch.Open("a.img", "format=raw,discard=unmap");
        Assert.Equal([new Run(0, 1 << 20, true, false)], await Map(disk));
        await disk.DiscardAsync(256 << 10, 64 << 10);
        await disk.WriteZeroesAsync(512 << 10, 64 << 10, mayUnmap: true);
        await disk.ResizeAsync(2 << 20);
        Assert.Equal([256, 64, 192, 64, 448, 1024], (await Map(disk)).Select(run => (int)(run.Length >> 10)));
        await disk.Write(256 << 10, BlockDriverExtensions.Pattern(2, 64 << 10));
        Assert.Equal([512, 64, 448, 1024], (await Map(disk)).Select(run => (int)(run.Length >> 10)));
    }

    [QemuFact]
    public async Task Holes_of_a_file_are_zeros()
    {
        using var scratch = new Scratch();
        using (FileStream file = File.Create(scratch["a.img"]))
        {
            file.SetLength(4 << 20);
            file.Position = 1 << 20;
            file.Write(BlockDriverExtensions.Pattern(1, 128 << 10));
        }
        await using BlockDriver raw = scratch.Open("a.img", "format=raw");
        List<Run> runs = await Map(raw);
        Assert.Equal(Reference(scratch["a.img"], "raw"), runs);
        Assert.Contains(runs, run => run.IsZero);
        Assert.Contains(runs, run => run.IsData);
    }

    [Fact]
    public async Task A_raw_image_grows_and_shrinks_and_what_is_new_is_zero()
    {
        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["a.img"], BlockDriverExtensions.Pattern(2, 8192));
        await using BlockDriver raw = scratch.Open("a.img", "format=raw");
        await raw.ResizeAsync(4096);
        await raw.ResizeAsync(16384);
        Assert.Equal(16384, raw.Length);
        Assert.Equal(16384, new FileInfo(scratch["a.img"]).Length);
        Assert.All(await raw.Read(4096, 12288), value => Assert.Equal(0, value));
        Assert.Equal(BlockDriverExtensions.Pattern(2, 8192)[..4096], await raw.Read(0, 4096));
        Assert.Equal(22, (await Assert.ThrowsAsync<BlockException>(async () => await raw.ResizeAsync(1000))).Errno);
    }

    [Fact]
    public async Task What_cannot_change_its_size_says_so()
    {
        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["a.img"], new byte[8192]);
        await using BlockDriver window = scratch.Open("a.img", "format=raw,size=4096");
        Assert.Equal(95, (await Assert.ThrowsAsync<BlockException>(async () => await window.ResizeAsync(512))).Errno);
        Assert.Equal(8192, new FileInfo(scratch["a.img"]).Length);
    }
}
