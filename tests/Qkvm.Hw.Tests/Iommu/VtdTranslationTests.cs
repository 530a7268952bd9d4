using Qkvm.Core.Memory;
using Qkvm.Hw.Iommu;
using static Qkvm.Hw.Tests.Iommu.VtdBench;

namespace Qkvm.Hw.Tests.Iommu;

/// <summary>DMA remapping, against VT-d sections 3.4, 3.7 and 9.1 to 9.8.</summary>
public sealed class VtdTranslationTests : IDisposable
{
    const ulong Target = 0x20_0000, Read = 1, Write = 2, Super = 1 << 7;

    readonly VtdBench _bench = new(new IntelIommuOptions(AddressBits: 48));

    Dma Dma => _bench.Device.Dma;

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData(3, 1, 0x40_2030_4000)] [InlineData(4, 1, 0x8123_4567_8000)] [InlineData(3, 2, 0x40_2020_0000)]
    [InlineData(4, 2, 0x8123_4560_0000)]
    public void Pages_and_superpages_of_three_and_four_levels_are_found(int levels, int lastLevel, ulong address)
    {
        _bench.Translate(levels);
        _bench.Map(address, Target | Read | Write | (lastLevel > 1 ? Super : 0), levels, lastLevel);
        Assert.True(Dma.Write(address + 0x123, 4, 0xCAFE_F00D));
        Assert.Equal(0xCAFE_F00DUL, _bench.Memory.Space.Read(Target + 0x123, 4));
        Assert.Equal(0xCAFE_F00DUL, Dma.Read(address + 0x123, 4));
        Assert.Equal(0u, _bench[FSTS]);
    }

    [Fact]
    public void A_gigabyte_is_one_entry()
    {
        _bench.Translate();
        _bench.Map(0x40_0000_0000, 0 | Read | Write | Super, 3, lastLevel: 3);
        Assert.True(Dma.Write(0x40_0000_0000 + Target, 8, 42));
        Assert.Equal(42UL, _bench.Memory.Space.Read(Target, 8));
    }

    [Fact]
    public void An_access_over_pages_takes_each_by_itself()
    {
        _bench.Translate();
        _bench.Map(0x1000, Target | Read | Write);
        _bench.Put(0x5000 + 2 * 8, Target + 0x8000 | Read | Write);
        Assert.True(Dma.Write(0x1FFE, new byte[] { 1, 2, 3, 4 }));
        Assert.Equal(new byte[] { 1, 2 }, _bench.Memory.Bytes(Target + 0xFFE, 2));
        Assert.Equal(new byte[] { 3, 4 }, _bench.Memory.Bytes(Target + 0x8000, 2));
        var pieces = new List<Memory<byte>>();
        Assert.True(Dma.TryMap(0x1F00, 0x200, true, pieces));
        Assert.Equal([0x100, 0x100], pieces.Select(piece => piece.Length));
        Assert.False(Dma.TryMap(0x1F00, 0x2000, true, pieces));
        Assert.Equal(2, pieces.Count);
    }

    [Fact]
    public void Without_translation_and_in_contexts_that_pass_through_addresses_stay()
    {
        Assert.True(Dma.Write(Target, 4, 1));
        _bench.Translate(4, contextLow: 2 << 2 | 1);
        Assert.True(Dma.Write(Target, 4, 2));
        Assert.Equal(2UL, _bench.Memory.Space.Read(Target, 4));
        Assert.Equal(0u, _bench[FSTS]);
    }

    [Fact]
    public void What_was_found_stays_until_it_is_invalidated()
    {
        _bench.Translate();
        _bench.Map(0x1000, Target | Read | Write);
        Assert.True(Dma.Write(0x1000, 4, 1));
        _bench.Map(0x1000, 0);
        Assert.True(Dma.Write(0x1000, 4, 2));
        _bench.Long(IOTLB, 1UL << 63 | 1UL << 60);
        Assert.False(Dma.Write(0x1000, 4, 3));
        Assert.Equal(2UL, _bench.Memory.Space.Read(Target, 4));
        _bench.Map(0x1000, Target + 0x1000 | Read);
        Assert.True(Dma.Read(0x1000, new byte[4]));
        Assert.False(Dma.Write(0x1000, 4, 4));
    }

    /// <summary>Each with what it does to a good table.</summary>
    public static TheoryData<VtdFault, ulong, ulong, ulong, bool> Mistakes => new()
    {
        // the fault, where to put what, the address, and whether it is written
        { VtdFault.RootNotPresent, Root, 0, 0x1000, true },
        { VtdFault.RootReserved, Root, Context | 0x10 | 1, 0x1000, true },
        { VtdFault.RootReserved, Root + 8, 1, 0x1000, true },
        { VtdFault.ContextAccess, Root, TestHole | 1, 0x1000, true },
        { VtdFault.ContextNotPresent, Context + Source * 16, 0, 0x1000, true },
        { VtdFault.ContextReserved, Context + Source * 16, Top | 0x20 | 1, 0x1000, true },
        { VtdFault.ContextReserved, Context + Source * 16 + 8, 1 << 24 | 1, 0x1000, true },
        { VtdFault.ContextInvalid, Context + Source * 16, Top | 3 << 2 | 1, 0x1000, true },
        { VtdFault.ContextInvalid, Context + Source * 16, Top | 1 << 2 | 1, 0x1000, true },
        { VtdFault.ContextInvalid, Context + Source * 16 + 8, 3, 0x1000, true },
        { VtdFault.AddressBeyond, Context + Source * 16 + 8, 1, 1UL << 39, true },
        { VtdFault.WriteDenied, 0x5000 + 8, Target | Read, 0x1000, true },
        { VtdFault.ReadDenied, 0x5000 + 8, Target | Write, 0x1000, false },
        { VtdFault.WriteDenied, Top, 0x4000 | Read, 0x1000, true },
        { VtdFault.PageTableAccess, Top, TestHole | 3, 0x1000, true },
        { VtdFault.PageReserved, 0x4000, Target | 0x1000 | Super | 3, 0x1000, true },
        { VtdFault.PageReserved, 0x5000 + 8, Target | 1 << 11 | 3, 0x1000, true },
    };

    const ulong TestHole = 0x3000_0000;

    [Theory, MemberData(nameof(Mistakes))]
    public void A_mistake_in_the_tables_is_a_fault_and_nothing_is_accessed(VtdFault fault, ulong at, ulong value,
        ulong address, bool write)
    {
        _bench.Translate();
        _bench.Map(0x1000, Target | Read | Write);
        _bench.Put(at, value);
        using (_bench.Memory.Lock.Hold())
        {
            if (write) Assert.False(Dma.Write(address, 4, 0xBAD));
            else Assert.False(Dma.Read(address, new byte[4]));
        }
        Assert.Equal((byte)fault, (byte)(_bench.Long(FRCD + 8) >> 32));
        Assert.Equal(write ? 0UL : 1UL, _bench.Long(FRCD + 8) >> 62 & 1);
        Assert.Equal(0UL, _bench.Memory.Space.Read(Target, 4));
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }

    [Fact]
    public void A_root_table_outside_memory_is_a_fault()
    {
        _bench.Long(RTADDR, TestHole);
        _bench.Command(SRTP);
        using (_bench.Memory.Lock.Hold())
        {
            _bench.Command(TE);
            Assert.False(Dma.Write(0, 4, 0));
        }
        Assert.Equal((byte)VtdFault.RootAccess, (byte)(_bench.Long(FRCD + 8) >> 32));
    }

    [Fact]
    public void A_context_can_keep_its_faults_off_the_record()
    {
        _bench.Translate(contextLow: Top | 2 | 1);
        using (_bench.Memory.Lock.Hold()) Assert.False(Dma.Write(0x1000, 4, 0));
        Assert.Equal(0u, _bench[FSTS]);
    }

    [Fact]
    public void Tables_of_noise_do_no_harm()
    {
        var random = new Random(7);
        var noise = new byte[0x10000];
        for (int round = 0; round < 200; round++)
        {
            random.NextBytes(noise);
            _bench.Memory.Space.Write(Root, noise);
            if (round % 2 == 0) _bench.Translate(3 + round / 2 % 2);
            else _bench.Command(TE);
            for (int i = 0; i < 20; i++) Dma.Write((ulong)random.NextInt64() >> random.Next(64), 4, 1);
        }
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }

    [Fact]
    public void A_cached_translation_allocates_nothing()
    {
        _bench.Translate();
        _bench.Map(0x1000, Target | Read | Write);
        Dma.Write(0x1000, 4, 1);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) Dma.Write(0x1000, 4, (ulong)i);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }
}
