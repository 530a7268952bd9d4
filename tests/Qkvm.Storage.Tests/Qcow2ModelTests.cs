using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>Random sequences on images of ours, against an array of bytes and against qemu-img.</summary>
public sealed class Qcow2ModelTests
{
    const int Size = 3 << 20;

    public static TheoryData<int, int, int, int, bool, bool> Shapes => new()
    {
        // seed, cluster size, refcount bits, version, extended L2, backing
        { 1, 512, 16, 3, false, false }, { 2, 512, 1, 3, false, true }, { 3, 512, 64, 3, false, false },
        { 4, 4096, 2, 3, false, true }, { 5, 4096, 4, 3, false, false }, { 6, 4096, 8, 3, false, true },
        { 7, 65536, 16, 3, false, true }, { 8, 65536, 32, 3, false, false }, { 9, 65536, 16, 2, false, true },
        { 10, 4096, 16, 2, false, false }, { 11, 2 << 20, 16, 3, false, true }, { 12, 16384, 16, 3, true, false },
        { 13, 65536, 16, 3, true, true }, { 14, 65536, 1, 3, true, true }, { 15, 1024, 64, 3, false, true },
    };

    [QemuTheory, MemberData(nameof(Shapes))]
    public async Task Random_requests_leave_what_a_plain_array_would_hold(int seed, int cluster, int refcount,
        int version, bool extended, bool backed)
    {
        using var scratch = new Scratch();
        var random = new Random(seed);
        var model = new byte[Size];
        if (backed)
        {
            byte[] old = BlockDriverExtensions.Pattern(seed, Size - 300 * 512);
            old.CopyTo(model, 0);
            File.WriteAllBytes(scratch["base.img"], old);
        }
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], Size, new Qcow2CreateOptions
        {
            ClusterSize = cluster, RefcountBits = refcount, Version = version, ExtendedL2 = extended,
            BackingFile = backed ? "base.img" : null, BackingFormat = backed ? "raw" : null,
        });
        for (int round = 0; round < 3; round++)
        {
            await using BlockDriver image = scratch.Open("a.qcow2", "format=qcow2,discard=unmap");
            for (int i = 0; i < 120; i++) await Step(image, model, random, keepsOnDiscard: version == 2 && backed);
            Assert.Equal(model, await image.Read(0, Size));
        }
        QemuTools.Img("check", scratch["a.qcow2"]);
        File.WriteAllBytes(scratch["model.img"], model);
        QemuTools.Img("compare", "-F", "raw", "-f", "qcow2", scratch["a.qcow2"], scratch["model.img"]);
    }

    [QemuTheory]
    [InlineData(512, 16)] [InlineData(512, 32)] [InlineData(512, 64)]
    public async Task The_refcount_table_grows_with_the_image(int cluster, int refcount)
    {
        using var scratch = new Scratch();
        const int size = 12 << 20;                                 // the first table covers 8 MiB at most
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], size,
            new Qcow2CreateOptions { ClusterSize = cluster, RefcountBits = refcount });
        byte[] data = BlockDriverExtensions.Pattern(cluster, size);
        await using (BlockDriver image = scratch.Open("a.qcow2"))
            for (int at = 0; at < size; at += 1 << 20) await image.Write(at, data[at..(at + (1 << 20))]);
        File.WriteAllBytes(scratch["model.img"], data);
        QemuTools.Img("check", scratch["a.qcow2"]);
        QemuTools.Img("compare", "-F", "raw", "-f", "qcow2", scratch["a.qcow2"], scratch["model.img"]);
    }

    [QemuTheory]
    [InlineData(21, 65536)] [InlineData(22, 4096)] [InlineData(23, 512)]
    public async Task Concurrent_requests_on_shared_clusters_lose_nothing(int seed, int cluster)
    {
        using var scratch = new Scratch();
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], Size, new Qcow2CreateOptions { ClusterSize = cluster });
        var model = new byte[Size];
        const int workers = 8, sector = 512;
        await using (BlockDriver image = scratch.Open("a.qcow2", "format=qcow2,discard=unmap"))
            await Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(async () =>
            {
                var random = new Random(seed * 100 + worker);
                for (int i = 0; i < 200; i++)
                {
                    // sectors of its own, clusters of all
                    int at = (random.Next(Size / sector / workers) * workers + worker) * sector;
                    byte[] data = BlockDriverExtensions.Pattern(random.Next(), sector);
                    if (i % 5 == 4)
                    {
                        data = new byte[sector];
                        await image.WriteZeroesAsync(at, sector, mayUnmap: true);
                    }
                    else await image.Write(at, data);
                    data.CopyTo(model, at);
                    if (i % 37 == 0) await image.FlushAsync();
                    Assert.Equal(data, await image.Read(at, sector));
                }
            })));
        File.WriteAllBytes(scratch["model.img"], model);
        QemuTools.Img("check", scratch["a.qcow2"]);
        QemuTools.Img("compare", "-F", "raw", "-f", "qcow2", scratch["a.qcow2"], scratch["model.img"]);
    }

    [QemuFact]
    public async Task Discards_under_concurrent_reuse_never_mix_up_clusters()
    {
        using var scratch = new Scratch();
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], Size, new Qcow2CreateOptions { ClusterSize = 4096 });
        const int workers = 6, part = Size / workers / 4096 * 4096;
        await using (BlockDriver image = scratch.Open("a.qcow2", "format=qcow2,discard=unmap"))
            await Task.WhenAll(Enumerable.Range(0, workers).Select(worker => Task.Run(async () =>
            {
                var random = new Random(worker);
                for (int i = 0; i < 150; i++)
                {
                    int length = 4096 * random.Next(1, 9),
                        at = worker * part + random.Next((part - length) / 4096) * 4096;
                    byte[] data = BlockDriverExtensions.Pattern(random.Next(), length);
                    await image.Write(at, data);
                    Assert.Equal(data, await image.Read(at, length));
                    await image.DiscardAsync(at, length);
                    Assert.Equal(new byte[length], await image.Read(at, length));
                    if (i % 10 == 0) await image.FlushAsync();
                }
            })));
        Assert.Contains("No errors", QemuTools.Img("check", scratch["a.qcow2"]));
    }

    /// <summary>One random request on both.</summary>
    internal static async Task Step(BlockDriver image, byte[] model, Random random, bool keepsOnDiscard)
    {
        int length = Math.Min(model.Length, 512 * (random.Next(4) == 0 ? random.Next(1, 800) : random.Next(1, 40)));
        int at = random.Next((model.Length - length) / 512 + 1) * 512;
        switch (random.Next(8))
        {
            case 0:
                await image.DiscardAsync(at, length);
                if (keepsOnDiscard) break;
                byte[] left = await image.Read(at, length);        // per sector: zeros, or what was there
                for (int i = 0; i < length; i++) Assert.True(left[i] == 0 || left[i] == model[at + i]);
                left.CopyTo(model, at);
                break;
            case 1:
                await image.WriteZeroesAsync(at, length, mayUnmap: random.Next(2) == 0);
                model.AsSpan(at, length).Clear();
                break;
            case 2:
                Assert.Equal(model.AsSpan(at, length).ToArray(), await image.Read(at, length));
                break;
            case 3:
                await image.FlushAsync();
                break;
            default:
                byte[] data = BlockDriverExtensions.Pattern(random.Next(), length);
                await image.Write(at, data);
                data.CopyTo(model, at);
                break;
        }
    }
}
