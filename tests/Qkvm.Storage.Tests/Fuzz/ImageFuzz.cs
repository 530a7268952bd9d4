using System.Buffers.Binary;
using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Tests.Fuzz;

/// <summary>Damages headers and tables of small images of every format. Opening, reading, writing and checking must
/// answer with errors of ours or with data, soon, and without much memory.</summary>
sealed class ImageFuzz(string format, byte[] sound)
{
    /// <summary>Bytes that one image may allocate: logs, tables and the longest requests of ours.</summary>
    const long MaxAllocated = 1L << 30;

    static readonly TimeSpan s_mostTime = TimeSpan.FromSeconds(60); // on a busy host

    static readonly ulong[] s_values = [0, 1, 2, 0x7F, 0xFF, 511, 512, 513, 4096, 0x7FFF, 0xFFFF, 0x10000, 1 << 20,
        0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1UL << 32, 1UL << 40, 1UL << 55, 1UL << 62, 1UL << 63, long.MaxValue,
        ulong.MaxValue];

    /// <summary>Until the time is over; exit code.</summary>
    public static int Run(int seed, TimeSpan time, Action<string> print)
    {
        ImageFuzz[] all = [.. SampleImages.Formats.Select(format =>
            new ImageFuzz(format, SampleImages.Make(format).GetAwaiter().GetResult()))];
        var clock = Stopwatch.StartNew();
        long images = 0;
        for (; clock.Elapsed < time; seed++)
            foreach (ImageFuzz fuzz in all)
            {
                if (fuzz.Try(seed) is { } wrong)
                {
                    print($"seed {seed}, {fuzz.Format}: {wrong}");
                    return 1;
                }
                images++;
            }
        print($"{images} images of {all.Length} formats, last seed {seed - 1}");
        return 0;
    }

    public string Format => format;

    /// <summary>What is wrong, or null.</summary>
    public string? Try(int seed)
    {
        var random = new Random(seed);
        var file = new MemoryFile(Damaged(random)) { KeepsLog = false, Limit = 64 << 20 };
        long before = GC.GetTotalAllocatedBytes();
        Task<Exception?> use = Task.Run(() => Use(file, random));
        if (!use.Wait(s_mostTime)) return "hangs";
        if (use.Result is { } error) return error.ToString();
        long allocated = GC.GetTotalAllocatedBytes() - before;
        return allocated > MaxAllocated ? $"allocates {allocated >> 20} MiB" : null;
    }

    byte[] Damaged(Random random)
    {
        var image = (byte[])sound.Clone();
        for (int i = random.Next(1, 5); i > 0; i--)
        {
            // mostly headers and what lies at the ends
            int span = random.Next(4) == 0 ? image.Length : Math.Min(image.Length, random.Next(2) == 0 ? 128 : 8192);
            int at = random.Next(5) == 0 ? image.Length - 1 - random.Next(Math.Min(image.Length, 1024))
                : random.Next(span);
            int width = 1 << random.Next(4);
            at = Math.Min(at / width * width, image.Length - width);
            ulong value = random.Next(3) switch
            {
                0 => s_values[random.Next(s_values.Length)],
                1 => (ulong)random.NextInt64(),
                _ => (ulong)random.Next(image.Length) / 512 * 512,
            };
            var field = new byte[8];
            if (random.Next(2) == 0) BinaryPrimitives.WriteUInt64LittleEndian(field, value);
            else BinaryPrimitives.WriteUInt64BigEndian(field, value << (64 - 8 * width));
            field.AsSpan(0, width).CopyTo(image.AsSpan(at));
        }
        return random.Next(8) == 0 ? image[..random.Next(image.Length)] : image;
    }

    /// <summary>An error that is not ours, or null.</summary>
    async Task<Exception?> Use(MemoryFile file, Random random)
    {
        try
        {
            BlockDriver image = SampleImages.Open(format, file, readOnly: random.Next(3) == 0);
            for (int i = 0; i < 8; i++) await Attempt(() => Step(image, random));
            if (image is ICheckable check)
                await Attempt(async () => await check.CheckAsync(Repair.None, static _ => { }));
            if (image is ISnapshots snapshots && !image.IsReadOnly && random.Next(3) == 0)
                await Attempt(async () => await snapshots.CreateSnapshotAsync(new("", "s", 0, 0, 0, 0, null)));
            await Attempt(() => image.DisposeAsync().AsTask());
            return null;
        }
        catch (ConfigurationException) { return null; }
        catch (Exception e) { return e; }
    }

    static async Task Step(BlockDriver image, Random random)
    {
        if (image.Length < 512) return;
        int length = (int)Math.Min(image.Length, 512 * random.Next(1, 200));
        long at = random.NextInt64((image.Length - length) / 512 + 1) * 512;
        if (random.Next(3) > 0) at = Math.Min(at, SampleImages.Size - length & -512L);
        if (at < 0) at = 0;
        switch (image.IsReadOnly ? random.Next(2) : random.Next(6))
        {
            case 0: await image.Read(at, length); break;
            case 1: await image.StatusAsync(at, length); break;
            case 2: await image.DiscardAsync(at, length); break;
            case 3: await image.WriteZeroesAsync(at, length, mayUnmap: random.Next(2) == 0); break;
            case 4: await image.FlushAsync(); break;
            default: await image.Write(at, BlockDriverExtensions.Pattern(random.Next(), length)); break;
        }
    }

    static async Task Attempt(Func<Task> request)
    {
        try { await request(); }
        catch (BlockException) { }
    }
}
