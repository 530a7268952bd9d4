using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>Images made to harm: an error of ours, bounded memory, and the header stays whole.</summary>
public sealed class HostileImageTests
{
    const int Cluster = 4096, Size = 8 << 20;
    // as FormatAsync and one write lay it out
    const int L1At = 3 * Cluster, TableAt = Cluster, BlockAt = 2 * Cluster, DataAt = 5 * Cluster;

    [Theory]
    [InlineData(20, 4, 0u)] [InlineData(20, 4, 63u)] [InlineData(20, 4, 8u)] [InlineData(20, 4, 22u)]   // cluster_bits
    [InlineData(24, 8, 1UL << 63)] [InlineData(24, 8, (1UL << 63) - 1)] [InlineData(24, 8, 1UL << 50)]   // size
    [InlineData(36, 4, 0xFFFFFFFFu)] [InlineData(36, 4, 0u)]                                            // l1_size
    // l1_table_offset
    [InlineData(40, 8, 1UL << 60)] [InlineData(40, 8, 4097ul)]
    // refcount_table_offset
    [InlineData(48, 8, 513ul)] [InlineData(48, 8, ulong.MaxValue << 12)]
    // refcount_table_clusters
    [InlineData(56, 4, 0u)] [InlineData(56, 4, 0xFFFFFFFFu)]
    [InlineData(60, 4, 65537u)] [InlineData(60, 4, 0xFFFFFFFFu)]                                        // nb_snapshots
    // version, crypt, order
    [InlineData(4, 4, 4u)] [InlineData(4, 4, 0u)] [InlineData(32, 4, 1u)] [InlineData(96, 4, 7u)]
    [InlineData(100, 4, 8u)] [InlineData(100, 4, 0xFFFFFFFFu)]                                          // header_length
    // incompatible_features
    [InlineData(72, 8, 1ul << 40)] [InlineData(72, 8, 2ul)]
    public async Task A_header_with_impossible_fields_is_refused(int at, int width, ulong value)
    {
        MemoryFile file = await Image();
        Put(file, at, width, value);
        byte[] before = file.Contents;
        Assert.Throws<ConfigurationException>(() => Open(file));
        Assert.Equal(before, file.Contents);
    }

    [Fact]
    public async Task An_unknown_feature_is_named_by_its_mask()
    {
        MemoryFile file = await Image();
        Put(file, 72, 8, 1ul << 40);
        Assert.Contains("Unknown incompatible feature: 10000000000",
            Assert.Throws<ConfigurationException>(() => Open(file)).Message);
    }

    [Theory]
    [InlineData(0xFFFF_FFFFu)] [InlineData(5000u)] [InlineData(1024u)]
    public async Task A_backing_file_name_that_leaves_its_place_is_refused(uint length)
    {
        MemoryFile file = await Image();
        Put(file, 8, 8, 3000);
        Put(file, 16, 4, length);
        Assert.Throws<ConfigurationException>(() => Open(file));
        Put(file, 8, 8, 1 << 20);
        Assert.Throws<ConfigurationException>(() => Open(file));
    }

    [Theory]
    [InlineData(1u << 31)] [InlineData(0xFFFF_FFFFu)] [InlineData(4090u)]
    public async Task A_header_extension_that_leaves_the_cluster_is_refused(uint length)
    {
        MemoryFile file = await Image();
        Put(file, 112, 4, 0x12345678);
        Put(file, 116, 4, length);
        Assert.Throws<ConfigurationException>(() => Open(file));
    }

    public static TheoryData<int, ulong> BadPointers => new()
    {
        // L2 over metadata
        { L1At, Copied }, { L1At, 0 }, { L1At, Copied | L1At }, { L1At, Copied | TableAt }, { L1At, Copied | BlockAt },
        // unaligned, beyond the end
        { L1At, Copied | 512 }, { L1At, Copied | 1UL << 50 }, { L1At, (Copied | 1UL << 55) + Cluster },
        // two entries, one table
        { L1At + 8, Copied | 4 * Cluster },
        // data over metadata
        { 4 * Cluster, Copied | L1At }, { 4 * Cluster, Copied | BlockAt }, { 4 * Cluster, Copied | 4 * Cluster },
        { 4 * Cluster, Copied | (DataAt + 512) }, { 4 * Cluster, Copied | 0x00FF_FFFF_FFFF_F000 },
        { TableAt, 0 }, { TableAt, 512 }, { TableAt, L1At }, { TableAt, 1UL << 50 }, { TableAt + 8, BlockAt },
            { TableAt, TableAt },
    };

    const ulong Copied = 1UL << 63;

    [Theory, MemberData(nameof(BadPointers))]
    public async Task Pointers_to_wrong_places_never_let_a_write_harm_the_metadata(int at, ulong value)
    {
        MemoryFile file = await Image();
        Put(file, at, 8, value);
        byte[] before = file.Contents;
        try
        {
            Qcow2Driver image = Open(file);
            for (int i = 0; i < 40; i++)
                await Attempt(() =>
                    image.Write(i * 3 * Cluster / 2 / 512 * 512, BlockDriverExtensions.Pattern(i, 6000 / 512 * 512)));
            await Attempt(() => image.DiscardAsync(0, Size).AsTask());
            await Attempt(() => image.WriteZeroesAsync(0, Size, true).AsTask());
            await Attempt(() => image.FlushAsync().AsTask());
            await Attempt(() => image.Read(0, Size));
        }
        catch (ConfigurationException) { }                         // refused at once: as good
        byte[] after = file.Contents;
        Assert.Equal(before[..48], after[..48]);                   // magic, sizes, L1: what no write of ours changes
        Assert.Equal(before[60..72], after[60..72]);
        Assert.Equal(before[96..1024], after[96..1024]);
        Assert.True(after.Length < 64 << 20);

        async Task Attempt(Func<Task> request)
        {
            try { await request(); }
            catch (BlockException) { }
        }
    }

    [Fact]
    public async Task A_write_over_metadata_marks_the_image_corrupt_and_later_opens_read_only()
    {
        MemoryFile file = await Image();
        Put(file, 4 * Cluster, 8, Copied | L1At);
        Qcow2Driver image = Open(file);
        Assert.Equal(5, (await Assert.ThrowsAsync<BlockException>(() => image.Write(0, new byte[512]))).Errno);
        Assert.Equal(5, (await Assert.ThrowsAsync<BlockException>(() => image.Write(Size / 2, new byte[512]))).Errno);
        Assert.Contains("corrupt", Assert.Throws<ConfigurationException>(() => Open(file)).Message);
        Open(file, readOnly: true);
    }

    [Fact]
    public async Task A_free_cluster_that_is_in_use_is_not_given_away()
    {
        MemoryFile file = await Image();
        Put(file, BlockAt, 8, 0);                                  // header, tables: all refcounts 0
        byte[] before = file.Contents;
        Qcow2Driver image = Open(file);
        await Assert.ThrowsAsync<BlockException>(() => image.Write(1 << 20, new byte[Cluster]));
        Assert.Equal(before[..72], file.Contents[..72]);
    }

    [Theory]
    [InlineData(0)] [InlineData(7)] [InlineData(4000)]
    public async Task A_compressed_cluster_of_rubbish_fails_its_read_alone(int at)
    {
        MemoryFile file = await Image();
        Put(file, 4 * Cluster, 8, 1UL << 62 | 0xFUL << 58 | (uint)(DataAt + at));
        Qcow2Driver image = Open(file);
        Assert.Equal(5, (await Assert.ThrowsAsync<BlockException>(() => image.Read(0, 512))).Errno);
        await image.Read(Cluster, 512);
        Put(file, 4 * Cluster, 8, 1UL << 62 | 1UL << 40);          // far beyond the end
        Assert.Equal(5, (await Assert.ThrowsAsync<BlockException>(() => Open(file).Read(0, 512))).Errno);
    }

    [Fact]
    public async Task A_snapshot_table_with_impossible_entries_is_refused()
    {
        foreach ((int at, int width, ulong value) in new[] { (0, 8, 1UL << 55), (8, 4, 0xFFFFFFFFul),
            (36, 4, 0xFFFFFFFFul), (0, 8, 100ul) })
        {
            MemoryFile file = await Image();
            int table = (file.Contents.Length + Cluster - 1) / Cluster * Cluster;
            Put(file, table + Cluster - 8, 8, 0);
            Put(file, 60, 4, 1);
            Put(file, 64, 8, (ulong)table);
            Put(file, table + 8, 4, 1);
            Put(file, table + at, width, value);
            Assert.Throws<ConfigurationException>(() => Open(file));
            Put(file, 60, 4, 65536);                               // more of them than the file holds
            Assert.Throws<ConfigurationException>(() => Open(file));
        }
    }

    [Fact]
    public async Task Random_damage_ends_in_errors_of_ours_only()
    {
        var random = new Random(99);
        MemoryFile sound = await Image();
        byte[] start = sound.Contents;
        for (int trial = 0; trial < 300; trial++)
        {
            var file = new MemoryFile((byte[])start.Clone()) { KeepsLog = false };
            for (int i = random.Next(1, 6); i > 0; i--)
                Put(file, random.Next(trial % 2 == 0 ? 112 : start.Length / 8) / 4 * 4, 4,
                    (ulong)random.Next() << random.Next(3) & 0xFFFFFFFF);
            try
            {
                Qcow2Driver image = Open(file);
                for (int i = 0; i < 6; i++)
                    try { await Qcow2ModelTests.Step(image, new byte[Math.Min(image.Length, 1 << 20)], random,
                        keepsOnDiscard: true); }
                    catch (BlockException) { }
                    catch (Xunit.Sdk.XunitException) { }           // contents are rubbish, as is the image
            }
            catch (ConfigurationException) { }
        }
    }

    /// <summary>Header, refcount table, block, L1, one L2 table, data at guest offset 0.</summary>
    static async Task<MemoryFile> Image()
    {
        var file = new MemoryFile([]) { KeepsLog = false };
        await Qcow2Image.FormatAsync(file, "memory", Size, new Qcow2CreateOptions { ClusterSize = Cluster });
        await using Qcow2Driver image = Open(file);
        await image.Write(0, BlockDriverExtensions.Pattern(1, 2 * Cluster));
        await image.FlushAsync();
        Assert.Equal(Copied | 4 * Cluster, BinaryPrimitives.ReadUInt64BigEndian(file.Contents.AsSpan(L1At)));
        Assert.Equal(Copied | DataAt, BinaryPrimitives.ReadUInt64BigEndian(file.Contents.AsSpan(4 * Cluster)));
        return file;
    }

    /// <summary>As if the one before had crashed.</summary>
    static Qcow2Driver Open(MemoryFile file, bool readOnly = false)
    {
        foreach (BlockEdge before in file.Edges.ToArray()) before.Detach();
        return new(file, "memory", new NodeOptions { Discard = true, ReadOnly = readOnly }, static _ => null);
    }

    static void Put(MemoryFile file, int at, int width, ulong value)
    {
        var field = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(field, value);
        file.WriteAsync(at, new ScatterList(field.AsMemory(8 - width))).GetAwaiter().GetResult();
    }
}
