using Qkvm.Core.Block;
using Qkvm.Storage.Tests.Fuzz;

namespace Qkvm.Storage.Tests;

/// <summary>The machine dies at any write: what reached the disk is everything before the last flush and any part of
/// the rest.</summary>
public sealed class FormatCrashTests
{
    const int Size = SampleImages.Size, Kept = Size / 2;

    public static TheoryData<string, int> Runs
    {
        get
        {
            var runs = new TheoryData<string, int>();
            foreach (string format in SampleImages.Writable)
                for (int seed = 1; seed <= 3; seed++) runs.Add(format, seed);
            return runs;
        }
    }

    /// <summary>The upper half is flushed and left alone; the lower one changes while the machine dies.</summary>
    [Theory, MemberData(nameof(Runs))]
    public async Task Flushed_data_survives_a_crash_at_every_point(string format, int seed)
    {
        string options = format == "vhdx" ? "block_size=1M" : format == "qcow2" ? "cluster_size=4k" : "";
        var random = new Random(seed);
        var file = new MemoryFile(await SampleImages.Make(format, options)) { KeepsLog = false };
        BlockDriver image = SampleImages.Open(format, file, readOnly: false);
        byte[] kept = BlockDriverExtensions.Pattern(seed, Kept);
        await image.Write(Size - Kept, kept);
        await image.FlushAsync();
        byte[] start = file.Contents;
        file.KeepsLog = true;
        for (int i = 0; i < 25; i++)
        {
            int length = 512 * random.Next(1, 60), at = random.Next((Size - Kept - length) / 512) * 512;
            if (i % 5 == 0) await image.WriteZeroesAsync(at, length, mayUnmap: true);
            else await image.Write(at, BlockDriverExtensions.Pattern(i, length));
            if (i % 7 == 6) await image.FlushAsync();
        }
        await image.DisposeAsync();
        for (int end = 0; end <= file.Log.Count; end++)
            for (int order = 0; order < 2; order++)
            {
                var crashed = new MemoryFile(Qcow2CrashTests.Replay(start, file.Log, end, random)) { KeepsLog = false };
                await using BlockDriver survivor = SampleImages.Open(format, crashed, readOnly: false);
                Assert.Equal(kept, await survivor.Read(Size - Kept, Kept));
                await survivor.Write(0, new byte[4096]);           // and it goes on
                Assert.Equal(kept, await survivor.Read(Size - Kept, Kept));
            }
    }

    [Theory]
    [InlineData("vdi")] [InlineData("vpc")] [InlineData("vmdk")] [InlineData("vhdx")]
    public async Task A_full_host_fails_the_request_and_the_next_one_succeeds(string format)
    {
        var random = new Random(6);
        var file = new MemoryFile(await SampleImages.Make(format, format == "vhdx" ? "block_size=1M" : ""))
        {
            KeepsLog = false,
        };
        BlockDriver image = SampleImages.Open(format, file, readOnly: false);
        byte[] model = SampleImages.Contents();
        Assert.True(await FullHost.Fill(file, image, model, random, 100) > 3);
        Assert.Equal(model, await image.Read(0, Size));
        await image.DisposeAsync();
        await using BlockDriver again = SampleImages.Open(format, file, readOnly: true);
        Assert.Equal(model, await again.Read(0, Size));
    }

    /// <summary>Everything that was flushed is there, also for the reference tools.</summary>
    [QemuTheory]
    [InlineData("vdi")] [InlineData("vpc")] [InlineData("vmdk")] [InlineData("vhdx")]
    public async Task What_was_flushed_is_there_after_a_crash(string format)
    {
        const int size = 8 << 20;
        using var scratch = new Scratch();
        var random = new Random(8);
        await scratch.Create(format, "a", size, format == "vhdx" ? "block_size=1M" : "");
        var file = new MemoryFile(File.ReadAllBytes(scratch["a"]));
        byte[] start = file.Contents;
        var promises = new List<(int At, byte[] Model)>();
        BlockDriver image = SampleImages.Open(format, file, readOnly: false);
        var model = new byte[image.Length];
        for (int i = 0; i < 30; i++)
        {
            int length = 512 * random.Next(1, 600), at = random.Next((size - length) / 512) * 512;
            byte[] data = BlockDriverExtensions.Pattern(i, length);
            await image.Write(at, data);
            data.CopyTo(model, at);
            if (i % 6 != 5) continue;
            await image.FlushAsync();
            promises.Add((file.Log.Count, (byte[])model.Clone()));
        }
        foreach ((int at, byte[] then) in promises)
        {
            byte[] bytes = Qcow2CrashTests.Replay(start, file.Log, at, random);
            File.WriteAllBytes(scratch["b"], bytes);
            if (format == "vhdx") QemuTools.Run("qemu-img", "check", "-r", "all", "-f", format, scratch["b"]); // replay
            QemuTools.Img("convert", "-f", format, "-O", "raw", scratch["b"], scratch["raw"]);
            Assert.Equal(then, File.ReadAllBytes(scratch["raw"]));
            await using BlockDriver survivor = SampleImages.Open(format, new MemoryFile(bytes) { KeepsLog = false },
                readOnly: false);
            Assert.Equal(then, await survivor.Read(0, then.Length));
        }
    }
}
