using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>The end of a qcow2 disk moves; qemu-img and a model of the disk judge.</summary>
public sealed class Qcow2ResizeTests
{
    [QemuTheory]
    [InlineData(1, 512, 3)] [InlineData(2, 4096, 3)] [InlineData(3, 65536, 3)] [InlineData(4, 512, 2)]
    public async Task What_is_new_is_zero_and_the_rest_as_it_was(int seed, int cluster, int version)
    {
        using var scratch = new Scratch();
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], 96 << 10,
            new Qcow2CreateOptions { ClusterSize = cluster, Version = version });
        var random = new Random(seed);
        byte[] model = new byte[96 << 10];
        await using (BlockDriver disk = scratch.Open("a.qcow2"))
            for (int i = 0; i < 40; i++)
            {
                int at = random.Next(model.Length / 512) * 512;
                byte[] data = BlockDriverExtensions.Pattern(i, Math.Min(model.Length - at, 512 * random.Next(1, 40)));
                await disk.Write(at, data);
                data.CopyTo(model, at);
                int size = 512 * random.Next(1, 4000);
                await disk.ResizeAsync(size);
                Array.Resize(ref model, size);
                Assert.Equal(size, disk.Length);
                Assert.Equal(model, await disk.Read(0, size));
            }
        QemuTools.Img("check", "-q", scratch["a.qcow2"]);
        QemuTools.Img("convert", "-f", "qcow2", "-O", "raw", scratch["a.qcow2"], scratch["a.raw"]);
        Assert.Equal(model, File.ReadAllBytes(scratch["a.raw"]));
    }

    [QemuFact]
    public async Task A_longer_backing_image_does_not_shine_through_what_is_new()
    {
        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["base.raw"], BlockDriverExtensions.Pattern(1, 1 << 20));
        QemuTools.Img("create", "-q", "-f", "qcow2", "-b", scratch["base.raw"], "-F", "raw", scratch["a.qcow2"],
            "300k");
        await using (BlockDriver disk = scratch.Open("a.qcow2")) await disk.ResizeAsync(2 << 20);
        QemuTools.Img("check", "-q", scratch["a.qcow2"]);
        QemuTools.Img("convert", "-f", "qcow2", "-O", "raw", scratch["a.qcow2"], scratch["a.raw"]);
        byte[] expected = BlockDriverExtensions.Pattern(1, 1 << 20)[..(300 << 10)];
        Array.Resize(ref expected, 2 << 20);
        Assert.Equal(expected, File.ReadAllBytes(scratch["a.raw"]));
    }

    [QemuFact]
    public async Task Snapshots_keep_their_size_and_contents()
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", "qcow2", scratch["a.qcow2"], "1M");
        QemuTools.Io(scratch["a.qcow2"], "write -P 7 0 128k");
        QemuTools.Img("snapshot", "-c", "s", scratch["a.qcow2"]);
        await using (BlockDriver disk = scratch.Open("a.qcow2"))
        {
            await disk.Write(0, BlockDriverExtensions.Pattern(1, 65536));
            await disk.ResizeAsync(4L << 30);
            await disk.Write((4L << 30) - 512, new byte[512]);
        }
        QemuTools.Img("check", "-q", scratch["a.qcow2"]);
        QemuTools.Img("snapshot", "-a", "s", scratch["a.qcow2"]);
        QemuTools.Io(scratch["a.qcow2"], "read -P 7 0 128k");
    }

    [QemuTheory]
    [InlineData(512)] [InlineData(4096)]
    public async Task After_a_crash_the_disk_has_one_size_or_the_other(int cluster)
    {
        using var scratch = new Scratch();
        var random = new Random(cluster);
        var file = new MemoryFile([]);
        await Qcow2Image.FormatAsync(file, "memory", 64 << 10, new Qcow2CreateOptions { ClusterSize = cluster });
        var image = new Qcow2Driver(file, "memory", new NodeOptions(), static _ => null);
        byte[] kept = BlockDriverExtensions.Pattern(1, 32 << 10);
        await image.Write(0, kept);
        await image.Write(32 << 10, kept);
        await image.FlushAsync();
        byte[] start = file.Contents;
        file.Log.Clear();
        long[] sizes = [64 << 10, 20 << 20, 32 << 10, 80 << 20];
        foreach (long size in sizes[1..])
        {
            await image.ResizeAsync(size);
            await image.Write(size - 512, new byte[512]);
        }
        for (int end = 0; end <= file.Log.Count; end += random.Next(1, 1 + file.Log.Count / 40))
        {
            File.WriteAllBytes(scratch["a.qcow2"], Qcow2CrashTests.Replay(start, file.Log, end, random));
            (int code, string output) = QemuTools.Run("qemu-img", "check", scratch["a.qcow2"]);
            Assert.True(code is 0 or 3, $"{end} of {file.Log.Count} writes: {code}\n{output}");
            await using BlockDriver survivor = scratch.Open("a.qcow2");
            Assert.Contains(survivor.Length, sizes);
            Assert.Equal(kept[..(31 << 10)], await survivor.Read(0, 31 << 10)); // the sector behind is written to
        }
    }
}
