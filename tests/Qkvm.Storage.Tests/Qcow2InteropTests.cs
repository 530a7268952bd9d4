using Qkvm.Core.Block.Images;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>Images that the reference tools made, and ours under their eyes.</summary>
public sealed class Qcow2InteropTests
{
    const int Size = 2 << 20;

    [QemuTheory]
    [InlineData("compat=0.10")]
    [InlineData("compat=1.1")]
    [InlineData("cluster_size=512")]
    [InlineData("cluster_size=2M")]
    [InlineData("refcount_bits=1")]
    [InlineData("refcount_bits=64,cluster_size=4k")]
    [InlineData("preallocation=metadata")]
    [InlineData("preallocation=falloc")]
    [InlineData("preallocation=full,cluster_size=4k")]
    [InlineData("lazy_refcounts=on")]
    [InlineData("extended_l2=on,cluster_size=128k")]
    [InlineData("extended_l2=on,cluster_size=16k,preallocation=metadata")]
    public async Task An_image_made_by_qemu_reads_the_same_and_takes_writes(string options)
    {
        using var scratch = new Scratch();
        string path = scratch["a.qcow2"];
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", options, path, Size.ToString());
        QemuTools.Io(path, "write -P 0x11 0 64k", "write -P 0x22 100k 3k", "write -z 8k 4k", "write -P 0x33 1M 300k",
            "discard 1100k 64k", "write -P 0x55 2047k 1k");
        byte[] model = await Reference(scratch);

        await using (BlockDriver image = scratch.Open("a.qcow2", "format=qcow2,discard=unmap"))
        {
            Assert.Equal(model, await image.Read(0, Size));
            var random = new Random(5);
            for (int i = 0; i < 60; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
        }
        QemuTools.Img("check", path);
        Assert.Equal(model, await Reference(scratch));
    }

    [QemuTheory]
    [InlineData("zlib")] [InlineData("zstd")]
    public async Task Compressed_clusters_are_read_and_written_over(string type)
    {
        using var scratch = new Scratch();
        var model = new byte[Size];
        for (int i = 0; i < Size; i += 512) model.AsSpan(i, 300).Fill((byte)(i / 7000));
        File.WriteAllBytes(scratch["model.img"], model);
        QemuTools.Img("convert", "-c", "-O", "qcow2", "-o", $"compression_type={type}", scratch["model.img"],
            scratch["a.qcow2"]);
        await using (BlockDriver image = scratch.Open("a.qcow2", "format=qcow2,discard=unmap"))
        {
            Assert.Equal(model, await image.Read(0, Size));
            Assert.Equal(model[70000..70100],
                (await image.Read(70000 / 512 * 512, 1024))[(70000 % 512)..(70000 % 512 + 100)]);
            var random = new Random(6);
            for (int i = 0; i < 80; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
        }
        QemuTools.Img("check", scratch["a.qcow2"]);
        Assert.Equal(model, await Reference(scratch));
    }

    [QemuTheory]
    [InlineData("cluster_size=64k")] [InlineData("cluster_size=512,refcount_bits=8")]
    [InlineData("cluster_size=64k,extended_l2=on")]
    public async Task Internal_snapshots_stay_intact_under_writes(string options)
    {
        using var scratch = new Scratch();
        string path = scratch["a.qcow2"];
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", options, path, Size.ToString());
        QemuTools.Io(path, "write -P 0x11 0 1M", "write -P 0x12 1536k 100k");
        byte[] before = await Reference(scratch);
        QemuTools.Img("snapshot", "-c", "first", path);
        byte[] model = (byte[])before.Clone();
        await using (var image = (Qcow2Driver)scratch.Open("a.qcow2", "format=qcow2,discard=unmap"))
        {
            Assert.Equal(["first"], image.Snapshots.Select(s => s.Name));
            var random = new Random(7);
            for (int i = 0; i < 80; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
        }
        QemuTools.Img("check", path);
        Assert.Equal(model, await Reference(scratch));
        QemuTools.Img("snapshot", "-a", "first", path);
        Assert.Equal(before, await Reference(scratch));
        QemuTools.Img("check", path);
    }

    [QemuFact]
    public async Task A_chain_of_backing_files_with_relative_names_and_different_lengths_reads_the_same()
    {
        using var scratch = new Scratch();
        Directory.CreateDirectory(scratch["sub"]);
        QemuTools.Img("create", "-q", "-f", "qcow2", scratch["sub/base.qcow2"], "1M");
        QemuTools.Io(scratch["sub/base.qcow2"], "write -P 1 0 1M");
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", "base.qcow2", "-F", "qcow2",
            scratch["sub/middle.qcow2"], "1500k");
        QemuTools.Io(scratch["sub/middle.qcow2"], "write -P 2 100k 7k", "write -z 200k 8k", "write -P 3 1400k 10k");
        QemuTools.Img("create", "-q", "-f", "qcow2", "-b", "sub/middle.qcow2", "-F", "qcow2", scratch["a.qcow2"],
            Size.ToString());
        byte[] model = await Reference(scratch);
        Assert.Equal(3, model[1401 << 10]);
        await using (BlockDriver image = scratch.Open("a.qcow2", ""))
        {
            Assert.Equal("qcow2", image.FormatName);
            var random = new Random(8);
            for (int i = 0; i < 60; i++) await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
            Assert.Equal(model, await image.Read(0, Size));
        }
        QemuTools.Img("check", scratch["a.qcow2"]);
        Assert.Equal(model, await Reference(scratch));
    }

    [QemuFact]
    public async Task An_image_left_dirty_with_lazy_refcounts_is_repaired_when_opened_for_writing()
    {
        using var scratch = new Scratch();
        string path = scratch["a.qcow2"];
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, Size.ToString());
        QemuTools.Run("qemu-io", "-f", "qcow2", "-c", "write -P 0x77 0 500k", "-c", "flush", "-c", "abort", path);
        Assert.Contains("ERROR", QemuTools.Run("qemu-img", "check", path).Output);
        await using (BlockDriver reader = scratch.Open("a.qcow2", "format=qcow2,readonly=on"))
            Assert.All(await reader.Read(0, 500 << 10), value => Assert.Equal(0x77, value));
        await using (var image = (Qcow2Driver)scratch.Open("a.qcow2"))
        {
            await image.Write(1 << 20, BlockDriverExtensions.Pattern(1, 100 << 10));
            Assert.True(image.Info.IsDirty);                       // until it is closed
        }
        Assert.Equal(0, File.ReadAllBytes(path)[79] & 1);
        Assert.Contains("No errors", QemuTools.Img("check", path));
    }

    [QemuFact]
    public async Task Header_extensions_and_bitmaps_of_others_do_not_stop_writing()
    {
        using var scratch = new Scratch();
        string path = scratch["a.qcow2"];
        QemuTools.Img("create", "-q", "-f", "qcow2", path, Size.ToString());
        QemuTools.Img("bitmap", "--add", path, "changes");
        byte[] before = File.ReadAllBytes(path)[104..300];
        byte[] unknown = File.ReadAllBytes(path);
        unknown[88] = 0x80;                                        // autoclear bit 63
        File.WriteAllBytes(path, unknown);
        await using (BlockDriver image = scratch.Open("a.qcow2")) await image.Write(0,
            BlockDriverExtensions.Pattern(1, 4096));
        Assert.Equal(before[..20], File.ReadAllBytes(path)[104..124]);
        // whoever wrote without knowing what a bit vouches for says so
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 1], File.ReadAllBytes(path)[88..96]);
        Assert.Contains("changes", QemuTools.Img("info", path));
        Assert.Contains("No errors", QemuTools.Img("check", path));
    }

    /// <summary>Only the first write clears autoclear bits and the dirty bit: until then every byte and the time
    /// stay.</summary>
    [QemuTheory]
    [InlineData("bitmaps")] [InlineData("unknown")] [InlineData("dirty")] [InlineData("snapshots")]
    public async Task An_image_that_nobody_writes_to_stays_as_it_was(string kind)
    {
        using var scratch = new Scratch();
        string path = scratch["a.qcow2"];
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, Size.ToString());
        QemuTools.Io(path, "write -P 5 0 200k");
        if (kind == "bitmaps") QemuTools.Img("bitmap", "--add", path, "changes");
        if (kind == "snapshots") QemuTools.Img("snapshot", "-c", "one", path);
        byte[] bytes = File.ReadAllBytes(path);
        if (kind == "unknown") bytes[88] = 0x80;                   // autoclear bit 63
        if (kind == "dirty") bytes[79] = 1;
        File.WriteAllBytes(path, bytes);
        var time = new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc);
        File.SetLastWriteTimeUtc(path, time);
        await using (BlockDriver image = scratch.Open("a.qcow2"))
        {
            Assert.All(await image.Read(0, 200 << 10), value => Assert.Equal(5, value));
            await image.FlushAsync();
        }
        Assert.Equal(time, File.GetLastWriteTimeUtc(path));
        Assert.Equal(bytes, File.ReadAllBytes(path));

        foreach (string change in (string[])["write", "zeroes", "discard"])
        {
            File.WriteAllBytes(path, bytes);
            await using (BlockDriver image = scratch.Open("a.qcow2", "discard=unmap"))
                if (change == "write") await image.Write(0, BlockDriverExtensions.Pattern(1, 4096));
                else if (change == "zeroes") await image.WriteZeroesAsync(0, 65536, mayUnmap: true);
                else await image.DiscardAsync(0, 65536);
            byte[] after = File.ReadAllBytes(path);
            Assert.Equal([0, 0, 0, 0, 0, 0, 0, kind == "bitmaps" ? (byte)1 : (byte)0], after[88..96]);
            Assert.Equal(0, after[79] & 1);
            QemuTools.Img("check", path);
        }
    }

    [QemuTheory]
    [InlineData("preallocation")] [InlineData("lazy")] [InlineData("old")] [InlineData("extended")]
    public async Task Images_of_ours_say_the_same_about_themselves_as_qemus(string kind)
    {
        using var scratch = new Scratch();
        (Qcow2CreateOptions ours, string theirs) = kind switch
        {
            "preallocation" => (new Qcow2CreateOptions { Preallocation = Preallocation.Metadata },
                "preallocation=metadata"),
            "lazy" =>
                (new Qcow2CreateOptions { LazyRefcounts = true, RefcountBits = 8, ClusterSize = 8192 },
                "lazy_refcounts=on,refcount_bits=8,cluster_size=8k"),
            "old" => (new Qcow2CreateOptions { Version = 2 }, "compat=0.10"),
            _ => (new Qcow2CreateOptions { ExtendedL2 = true }, "extended_l2=on"),
        };
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], Size, ours);
        Directory.CreateDirectory(scratch["q"]);
        QemuTools.Img("create", "-q", "-f", "qcow2", "-o", theirs, scratch["q/a.qcow2"], Size.ToString());
        string Facts(string path) =>
            string.Join('\n', QemuTools.Img("info", path).Split('\n')
            .Where(line => !line.StartsWith("image:") && !line.StartsWith("disk size:")));
        Assert.Equal(Facts(scratch["q/a.qcow2"]), Facts(scratch["a.qcow2"]));
        QemuTools.Img("check", scratch["a.qcow2"]);
        if (kind == "preallocation")
            Assert.Contains("100.00% allocated", QemuTools.Img("check", scratch["a.qcow2"]));
    }

    /// <summary>The contents of a.qcow2 as the reference tool sees them.</summary>
    static async Task<byte[]> Reference(Scratch scratch)
    {
        QemuTools.Img("convert", "-O", "raw", scratch["a.qcow2"], scratch["reference.img"]);
        return await File.ReadAllBytesAsync(scratch["reference.img"]);
    }
}
