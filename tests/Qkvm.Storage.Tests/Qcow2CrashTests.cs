using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>The machine dies at any write: what reached the disk is everything before the last flush and any part of
/// the rest.</summary>
public sealed class Qcow2CrashTests
{
    const int Size = 1 << 20;

    [QemuTheory]
    [InlineData(1, 512, 16)] [InlineData(2, 4096, 16)] [InlineData(3, 512, 64)] [InlineData(4, 4096, 1)]
    public async Task After_a_crash_there_are_leaks_at_worst_and_flushed_data_is_there(int seed, int cluster,
        int refcount)
    {
        using var scratch = new Scratch();
        var random = new Random(seed);
        MemoryFile file = await NewImage(cluster, refcount);
        byte[] start = file.Contents;
        file.Log.Clear();
        var model = new byte[Size];
        var promises = new List<(int At, byte[] Model)> { (0, (byte[])model.Clone()) };
        var image = Open(file);
        for (int i = 0; i < 60; i++)
        {
            await Qcow2ModelTests.Step(image, model, random, keepsOnDiscard: false);
            if (i % 6 != 5) continue;
            await image.FlushAsync();
            promises.Add((file.Log.Count, (byte[])model.Clone()));
        }

        for (int trial = 0; trial < 15; trial++)
        {
            int end = random.Next(1, file.Log.Count + 1);
            File.WriteAllBytes(scratch["a.qcow2"], Replay(start, file.Log, end, random));
            (int code, string output) = QemuTools.Run("qemu-img", "check", scratch["a.qcow2"]);
            Assert.True(code is 0 or 3, $"seed {seed}, {end} of {file.Log.Count} writes: {code}\n{output}");
        }
        foreach ((int at, byte[] then) in promises.Skip(1).Where((_, i) => i % 3 == 0))
        {
            File.WriteAllBytes(scratch["a.qcow2"], Replay(start, file.Log, at, random));
            await using BlockDriver survivor = scratch.Open("a.qcow2");
            Assert.Equal(then, await survivor.Read(0, Size));
        }
    }

    [QemuTheory]
    [InlineData(512)] [InlineData(4096)]
    public async Task Data_that_was_flushed_and_not_touched_since_survives_every_later_crash(int cluster)
    {
        using var scratch = new Scratch();
        var random = new Random(cluster);
        MemoryFile file = await NewImage(cluster, 16);
        var image = Open(file);
        byte[] kept = BlockDriverExtensions.Pattern(1, Size / 2);
        await image.Write(Size / 2, kept);
        await image.FlushAsync();
        byte[] start = file.Contents;
        file.Log.Clear();
        for (int i = 0; i < 50; i++)
        {
            int length = 512 * random.Next(1, 100), at = random.Next((Size / 2 - length) / 512) * 512;
            if (i % 3 == 0) await image.DiscardAsync(at, length);
            else await image.Write(at, BlockDriverExtensions.Pattern(i, length));
            if (i % 9 == 0) await image.FlushAsync();
        }
        for (int trial = 0; trial < 20; trial++)
        {
            File.WriteAllBytes(scratch["a.qcow2"], Replay(start, file.Log, random.Next(file.Log.Count + 1), random));
            Assert.True(QemuTools.Run("qemu-img", "check", scratch["a.qcow2"]).Code is 0 or 3);
            await using BlockDriver survivor = scratch.Open("a.qcow2");
            Assert.Equal(kept, await survivor.Read(Size / 2, Size / 2));
        }
    }

    /// <summary>Snapshots, resizes and bitmaps come and go while the machine dies: data that were flushed before stay,
    /// and a check finds nothing worse than entries that do not know that they are alone.</summary>
    [QemuTheory]
    [InlineData(1, 512)] [InlineData(2, 4096)] [InlineData(3, 4096)] [InlineData(4, 16384)]
    public async Task Snapshots_and_resizes_survive_every_crash(int seed, int cluster)
    {
        using var scratch = new Scratch();
        var random = new Random(seed);
        MemoryFile file = await NewImage(cluster, 16);
        var image = Open(file);
        byte[] kept = BlockDriverExtensions.Pattern(1, Size / 2);
        await image.Write(0, kept);
        await image.FlushAsync();
        byte[] start = file.Contents;
        file.Log.Clear();
        int made = 0;
        for (int i = 0; i < 40; i++)
        {
            int length = 512 * random.Next(1, 100), at = Size / 2 + random.Next((Size / 2 - length) / 512) * 512;
            switch (i % 8)
            {
                case 2: await image.CreateSnapshotAsync(new("", $"s{made++}", 0, 1, 2, 3, null)); break;
                case 4 when image.Snapshots.Any():
                    await image.ApplySnapshotAsync(image.Snapshots.Last().Id);
                    break;
                case 6 when image.Snapshots.Count() > 1:
                    await image.DeleteSnapshotAsync(image.Snapshots.First().Id);
                    break;
                case 7: await image.ResizeAsync(Size + 512 * random.Next(1, 4000)); break;
                case 1: await image.DiscardAsync(at, length); break;
                case 5: await image.FlushAsync(); break;
                default: await image.Write(at, BlockDriverExtensions.Pattern(i, length)); break;
            }
        }
        for (int trial = 0; trial < 40; trial++)
        {
            int end = random.Next(file.Log.Count + 1);
            File.WriteAllBytes(scratch["a.qcow2"], Replay(start, file.Log, end, random));
            (int code, string output) = QemuTools.Run("qemu-img", "check", scratch["a.qcow2"]);
            if (code is not (0 or 3))
                Assert.All(output.Split('\n').Where(line => line.StartsWith("ERROR")),
                    line => Assert.True(line.Contains("OFLAG_COPIED"), $"{end} of {file.Log.Count}: {line}"));
            await using (var survivor = (Qcow2Driver)scratch.Open("a.qcow2"))
            {
                Assert.Equal(kept, await survivor.Read(0, Size / 2));
                await survivor.Write(Size / 2, BlockDriverExtensions.Pattern(trial, 4096));
                if (survivor.Snapshots.FirstOrDefault() is { } first) await survivor.ApplySnapshotAsync(first.Id);
                Assert.Equal(kept, await survivor.Read(0, Size / 2));
            }
            QemuTools.Run("qemu-img", "check", "-r", "all", scratch["a.qcow2"]);
            Assert.Contains("No errors", QemuTools.Img("check", scratch["a.qcow2"]));
        }
    }

    [QemuTheory]
    [InlineData(512)] [InlineData(4096)] [InlineData(65536)]
    public async Task A_full_host_fails_the_request_and_the_next_one_succeeds(int cluster)
    {
        using var scratch = new Scratch();
        var random = new Random(cluster);
        MemoryFile file = await NewImage(cluster, 16);
        var image = Open(file);
        var model = new byte[Size];
        Assert.True(await FullHost.Fill(file, image, model, random, 150) > 10);
        Assert.Equal(model, await image.Read(0, Size));
        await image.DisposeAsync();
        File.WriteAllBytes(scratch["a.qcow2"], file.Contents);
        (int code, string output) = QemuTools.Run("qemu-img", "check", scratch["a.qcow2"]);
        Assert.True(code is 0 or 3, output);
        await using BlockDriver reopened = scratch.Open("a.qcow2");
        Assert.Equal(model, await reopened.Read(0, Size));
    }

    static async Task<MemoryFile> NewImage(int cluster, int refcount)
    {
        var file = new MemoryFile([]);
        await Qcow2Image.FormatAsync(file, "memory", Size,
            new Qcow2CreateOptions { ClusterSize = cluster, RefcountBits = refcount });
        return file;
    }

    static Qcow2Driver Open(MemoryFile file) =>
        new(file, "memory", new NodeOptions { Discard = true }, static _ => null);

    internal static byte[] Replay(byte[] start, List<(long Offset, byte[]? Data)> log, int end, Random random)
    {
        var disk = (byte[])start.Clone();
        int flushed = end;
        while (flushed > 0 && log[flushed - 1].Data != null) flushed--;
        for (int i = 0; i < end; i++)
            if (log[i].Data is { } data && (i < flushed || random.Next(2) == 0))
                MemoryFile.Apply(ref disk, log[i].Offset, data);
        return disk;
    }
}
