using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Tests;

/// <summary>Images of other programs' formats: those that the reference tools made, and ours under their
/// eyes.</summary>
public sealed class FormatInteropTests
{
    const int Size = 5 << 20;

    /// <summary>Format, options, whether the reference tools can check it.</summary>
    public static TheoryData<string, string> Written => new()
    {
        { "vdi", "" }, { "vdi", "static=on" },
        { "vpc", "" }, { "vpc", "subformat=fixed" }, { "vpc", "force_size=on" },
        { "vmdk", "" }, { "vmdk", "subformat=monolithicFlat" }, { "vmdk", "subformat=twoGbMaxExtentSparse" },
        { "vmdk", "subformat=twoGbMaxExtentFlat" }, { "vmdk", "zeroed_grain=on" },
        { "vhdx", "" }, { "vhdx", "subformat=fixed,block_size=1M" }, { "vhdx", "block_size=1M,log_size=2M" },
    };

    [QemuTheory, MemberData(nameof(Written))]
    public async Task An_image_made_by_qemu_reads_the_same_and_takes_writes(string format, string options)
    {
        using var scratch = new Scratch();
        QemuTools.Img(["create", "-q", "-f", format, .. Given(options), scratch["a"], Size.ToString()]);
        QemuTools.IoOf(format, scratch["a"], "write -P 0x11 0 64k", "write -P 0x22 100k 3k", "write -z 8k 4k",
            "write -P 0x33 1M 300k", "write -P 0x55 4099k 1k");
        await TakesWrites(scratch, format);
    }

    [QemuTheory, MemberData(nameof(Written))]
    public async Task An_image_of_ours_is_what_qemu_expects(string format, string options)
    {
        using var scratch = new Scratch();
        await scratch.Create(format, "a", Size, options);
        Directory.CreateDirectory(scratch["q"]);
        QemuTools.Img(["create", "-q", "-f", format, .. Given(options), scratch["q/a"], Size.ToString()]);
        Assert.Equal(Facts(format, scratch["q/a"]), Facts(format, scratch["a"]));
        await TakesWrites(scratch, format);
    }

    [QemuTheory]
    [InlineData("vmdk", "subformat=streamOptimized")]
    [InlineData("qed", "")] [InlineData("qed", "cluster_size=4k,table_size=2")]
    [InlineData("parallels", "")] [InlineData("parallels", "cluster_size=64k")]
    public async Task What_qemu_filled_reads_the_same(string format, string options)
    {
        using var scratch = new Scratch();
        byte[] model = new byte[Size];
        for (int i = 0; i < Size; i += 300 << 10) BlockDriverExtensions.Pattern(i, Math.Min(70_000,
            Size - i)).CopyTo(model, i);
        File.WriteAllBytes(scratch["model"], model);
        QemuTools.Img(["convert", "-f", "raw", "-O", format, .. Given(options), scratch["model"], scratch["a"]]);
        await using BlockDriver image = scratch.Open("a", $"format={format},readonly=on");
        Assert.Equal(model, await image.Read(0, Size));
        Assert.Equal(model.AsSpan(1 << 20, 5120).ToArray(), await image.Read(1 << 20, 5120));
        Assert.Equal(format, image.FormatName);
    }

    [QemuTheory]
    [InlineData("qed", "backing_fmt=raw")] [InlineData("vmdk", "")]
    public async Task A_backing_file_shines_through(string format, string options)
    {
        using var scratch = new Scratch();
        string below = format == "vmdk" ? "vmdk" : "raw";
        File.WriteAllBytes(scratch["model"], BlockDriverExtensions.Pattern(1, Size));
        QemuTools.Img("convert", "-f", "raw", "-O", below, scratch["model"], scratch["base"]);
        QemuTools.Img(["create", "-q", "-f", format, "-b", "base", "-F", below, .. Given(options), scratch["a"]]);
        QemuTools.IoOf(format, scratch["a"], "write -P 7 100k 10k");
        byte[] model = Reference(scratch, format);
        Assert.Equal(7, model[101 << 10]);
        await using BlockDriver image = scratch.Open("a", $"format={format},readonly=on");
        Assert.Equal(model, await image.Read(0, Size));
    }

    [QemuFact]
    public async Task An_overlay_of_vmdk_takes_writes_and_notices_a_changed_parent()
    {
        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["model"], BlockDriverExtensions.Pattern(1, Size));
        QemuTools.Img("convert", "-f", "raw", "-O", "vmdk", scratch["model"], scratch["base"]);
        await scratch.Create("vmdk", "a", Size, "backing_file=base");
        await TakesWrites(scratch, "vmdk");
        QemuTools.IoOf("vmdk", scratch["base"], "write -P 7 0 1k");
        Assert.Contains("CID", Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=vmdk")).Message);
    }

    [QemuFact]
    public async Task A_stream_takes_each_grain_once()
    {
        using var scratch = new Scratch();
        await scratch.Create("vmdk", "a", Size, "subformat=streamOptimized");
        var model = new byte[Size];
        await using (BlockDriver image = scratch.Open("a", "format=vmdk"))
        {
            for (int at = 0; at < Size; at += 128 << 10)
            {
                byte[] data = BlockDriverExtensions.Pattern(at, 64 << 10);
                data.AsSpan(0, 50_000).Clear();
                await image.Write(at, data);
                data.CopyTo(model, at);
            }
            Assert.Contains("allocated cluster",
                (await Assert.ThrowsAsync<BlockException>(() => image.Write(0, new byte[512]))).Message);
            Assert.Equal(model, await image.Read(0, Size));
        }
        Assert.Equal(model, Reference(scratch, "vmdk"));
        Assert.Contains("No errors", QemuTools.Img("check", "-f", "vmdk", scratch["a"]));
        Assert.Equal("streamOptimized", System.Text.Json.JsonDocument.Parse(QemuTools.Img("info", "--output=json",
            scratch["a"])).RootElement.GetProperty("format-specific").GetProperty("data").GetProperty("create-type")
            .GetString());
    }

    [QemuFact]
    public async Task A_disk_of_5_GiB_has_three_extents()
    {
        using var scratch = new Scratch();
        await scratch.Create("vmdk", "a.vmdk", 5L << 30, "subformat=twoGbMaxExtentSparse");
        Directory.CreateDirectory(scratch["q"]);
        QemuTools.Img("create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", scratch["q/a.vmdk"], "5G");
        foreach (string name in (string[])["a-s001.vmdk", "a-s002.vmdk", "a-s003.vmdk"])
            Assert.Equal(new FileInfo(scratch[$"q/{name}"]).Length, new FileInfo(scratch[name]).Length);
        await using (BlockDriver image = scratch.Open("a.vmdk", "format=vmdk"))
            await image.Write((2L << 30) - 4096, BlockDriverExtensions.Pattern(3, 8192));
        QemuTools.Img("check", scratch["a.vmdk"]);
        await using BlockDriver again = scratch.Open("a.vmdk", "");
        Assert.Equal(BlockDriverExtensions.Pattern(3, 8192), await again.Read((2L << 30) - 4096, 8192));
    }

    /// <summary>Many writers at once: sectors of their own, blocks of all.</summary>
    [QemuTheory]
    [InlineData("vdi", "")] [InlineData("vpc", "")] [InlineData("vmdk", "")] [InlineData("vhdx", "block_size=1M")]
    public async Task Concurrent_writes_into_the_same_blocks_are_all_there(string format, string options)
    {
        using var scratch = new Scratch();
        await scratch.Create(format, "a", Size, options);
        const int workers = 6, sector = 512;
        var model = new byte[Reference(scratch, format).Length];
        await using (BlockDriver image = scratch.Open("a", $"format={format}"))
            await Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(async () =>
            {
                var random = new Random(worker);
                for (int i = 0; i < 150; i++)
                {
                    int at = (random.Next(Size / sector / workers) * workers + worker) * sector;
                    byte[] data = BlockDriverExtensions.Pattern(random.Next(), sector);
                    await image.Write(at, data);
                    data.CopyTo(model, at);
                    if (i % 37 == 0) await image.FlushAsync();
                    Assert.Equal(data, await image.Read(at, sector));
                }
            })));
        if (format != "vpc") QemuTools.Img("check", "-f", format, scratch["a"]);
        Assert.Equal(model, Reference(scratch, format));
    }

    [QemuTheory]
    [InlineData("parallels")] [InlineData("qed")]
    public void A_format_that_is_only_read_says_so(string format)
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", format, scratch["a"], "1M");
        Assert.Contains("Image is read-only",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a", $"format={format}")).Message);
    }

    /// <summary>Random requests on the image and on an array, which the reference tools compare.</summary>
    static async Task TakesWrites(Scratch scratch, string format)
    {
        byte[] model = Reference(scratch, format);
        await using (BlockDriver image = scratch.Open("a", $"format={format},discard=unmap"))
        {
            Assert.Equal(model.Length, image.Length);
            Assert.Equal(model, await image.Read(0, model.Length));
            var random = new Random(5);
            for (int i = 0; i < 80; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: true);
        }
        if (format != "vpc") QemuTools.Img("check", "-f", format, scratch["a"]);
        Assert.Equal(model, Reference(scratch, format));
        QemuTools.IoOf(format, scratch["a"], "write -P 0x77 2M 1M");
        model.AsSpan(2 << 20, 1 << 20).Fill(0x77);
        await using BlockDriver again = scratch.Open("a", $"format={format}");
        Assert.Equal(model, await again.Read(0, model.Length));
    }

    static string[] Given(string options) => options == "" ? [] : ["-o", options];

    static byte[] Reference(Scratch scratch, string format)
    {
        QemuTools.Img("convert", "-f", format, "-O", "raw", scratch["a"], scratch["reference"]);
        return File.ReadAllBytes(scratch["reference"]);
    }

    /// <summary>What info says, without names, sizes on disk and random numbers.</summary>
    static string Facts(string format, string path) => string.Join('\n', QemuTools.Img("info", "-f", format, path)
        .Split('\n').Where(line => !line.StartsWith("image:") && !line.StartsWith("disk size:")
            && !line.Contains("cid:") && !line.Contains("filename:")));
}
