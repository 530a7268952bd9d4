using Qkvm.Core.Memory;
using Qkvm.Hw.Intc;
using Qkvm.Hw.Iommu;
using Qkvm.Testing;
using static Qkvm.Hw.Tests.Iommu.VtdBench;

namespace Qkvm.Hw.Tests.Iommu;

/// <summary>Registers, invalidation and faults, against VT-d chapters 6, 7 and 10.</summary>
public sealed class IntelIommuTests : IDisposable
{
    readonly VtdBench _bench = new();

    public void Dispose() => _bench.Dispose();

    /// <summary>As QEMU 7.2 shows them for the same properties.</summary>
    [Theory]
    [InlineData(false, 39, false, false, true, true, 0x00d2_008c_2226_0206, 0xf00f4a)]
    [InlineData(true, 39, false, false, true, true, 0x00d2_008c_2226_0206, 0xf00f5a)]
    [InlineData(false, 48, false, false, true, true, 0x00d2_008c_222f_0606, 0xf00f4a)]
    [InlineData(false, 39, true, false, true, true, 0x00d2_008c_2226_0286, 0xf00f4a)]
    [InlineData(false, 39, false, true, false, true, 0x0012_008c_2226_0206, 0xf00f4e)]
    [InlineData(false, 39, false, false, true, false, 0x00d2_008c_2226_0206, 0xf42)]
    public void Capabilities_say_what_the_properties_asked_for(bool eim, int bits, bool caching, bool deviceIotlb,
        bool drains, bool intremap, ulong capabilities, ulong extended)
    {
        using var bench = new VtdBench(new IntelIommuOptions(intremap, eim, bits, IsCachingMode: caching,
            HasDeviceIotlb: deviceIotlb, Drains: drains));
        Assert.Equal(0x10u, bench[0]);
        Assert.Equal(capabilities, bench.Long(8));
        Assert.Equal(extended, bench.Long(0x10));
        bench.Long(8, 0);
        Assert.Equal(capabilities, bench.Long(8));
    }

    [Fact]
    public void Commands_show_in_the_status_and_tables_change_when_told()
    {
        _bench.Long(RTADDR, 0xABCD_E000);
        Assert.Equal(0u, _bench[GSTS]);
        _bench.Command(SRTP);
        _bench.Command(TE);
        Assert.Equal(TE | SRTP, _bench[GSTS]);
        _bench.Command(QIE);
        _bench.Remap();
        Assert.Equal(TE | SRTP | QIE | SIRTP | IRE, _bench[GSTS]);
        _bench[GCMD] = 0;
        Assert.Equal(SRTP | SIRTP, _bench[GSTS]);
    }

    [Fact]
    public void Register_based_invalidation_answers_at_once_with_what_was_done()
    {
        _bench.Long(CCMD, 1UL << 63 | 2UL << 61);
        Assert.Equal(2UL << 61 | 2UL << 59, _bench.Long(CCMD));
        _bench.Long(IOTLB, 1UL << 63 | 3UL << 60);
        Assert.Equal(3UL << 60 | 3UL << 57, _bench.Long(IOTLB));
    }

    [Fact]
    public void The_queue_runs_to_its_tail_and_a_wait_descriptor_writes_its_status_and_interrupts()
    {
        _bench[IEDATA] = 0x41;
        _bench[IEADDR] = 0xFEE0_1000;                              // processor 1
        _bench[IECTL] = 0;
        _bench.Put(Queue, 0x11, 0, 0x12, 0, 0x14, 0, 0x1234_5678_0000_0035, 0x4000);
        StartQueue();
        _bench[IQT] = 4 << 4;
        Assert.Equal(4u << 4, _bench[IQH]);
        Assert.Equal(0x1234_5678u, _bench.Memory.Space.Read(0x4000, 4));
        Assert.Equal("1:41", _bench.Taken());
        Assert.Equal(1u, _bench[ICS]);
        _bench[ICS] = 1;
        Assert.Equal(0u, _bench[ICS]);
    }

    [Theory]
    [InlineData(0UL, 0UL, 1u << 4)]                            // no type
    [InlineData(6UL, 0UL, 1u << 4)]                            // of scalable mode
    [InlineData(3UL, 0UL, 1u << 4)]                            // of devices' caches, which are not offered
    [InlineData(0x25UL, 0x3000_0000UL, 1u << 4)]               // a status outside RAM
    [InlineData(0x1_0005UL, 0UL, 1u << 4)]                     // reserved bits
    [InlineData(1UL, 0UL, 256u << 4)]                        // a tail behind the end
    public void An_impossible_descriptor_stops_the_queue_until_software_clears_the_error(ulong low, ulong high,
        uint tail)
    {
        _bench.Put(Queue, low, high);
        StartQueue();
        _bench[IQT] = tail;
        Assert.Equal(0u, _bench[IQH]);
        Assert.Equal(1u << 4, _bench[FSTS]);
        _bench.Put(Queue, 1, 0);
        _bench[IQT] = 1 << 4;
        Assert.Equal(0u, _bench[IQH]);
        _bench[FSTS] = 1 << 4;
        Assert.Equal(1u << 4, _bench[IQH]);
        Assert.Equal(0u, _bench[FSTS]);
    }

    [Fact]
    public void The_queue_wraps_at_its_end()
    {
        for (ulong i = 0; i < 256; i++) _bench.Put(Queue + i * 16, 1, 0);
        StartQueue();
        _bench[IQT] = 255 << 4;
        _bench[IQT] = 2 << 4;
        Assert.Equal(2u << 4, _bench[IQH]);
        Assert.Equal(0u, _bench[FSTS]);
    }

    [Fact]
    public void A_fault_is_on_record_until_cleared_and_a_second_one_meanwhile_is_lost()
    {
        _bench[FEDATA] = 0x51;
        _bench[FEADDR] = 0xFEE0_0000;
        _bench[FECTL] = 0;
        _bench.Translate();
        Assert.False(Write(0x12_3456));
        Assert.Equal("0:51", _bench.Taken());
        Assert.Equal(2u, _bench[FSTS]);
        Assert.Equal(0x12_3000UL, _bench.Long(FRCD));
        Assert.Equal(1UL << 63 | 5UL << 32 | Source, _bench.Long(FRCD + 8));
        Assert.False(Read(0x45_6000));
        Assert.Equal(3u, _bench[FSTS]);
        Assert.Equal(0x12_3000UL, _bench.Long(FRCD));
        Assert.Equal("", _bench.Taken());
        _bench[FRCD + 12] = 1u << 31;
        _bench[FSTS] = 1;
        Assert.Equal(0u, _bench[FSTS]);
        Assert.False(Read(0x45_6000));
        Assert.Equal(1UL << 63 | 1UL << 62 | 6UL << 32 | Source, _bench.Long(FRCD + 8));
        Assert.Equal("0:51", _bench.Taken());
    }

    [Fact]
    public void A_masked_event_waits_for_its_mask_and_wide_destinations_reach_high_ids()
    {
        _bench[FEDATA] = 0x52;
        _bench[FEADDR] = 0xFEE0_0000 | (300 & 0xFF) << 12;
        _bench[FEUADDR] = 300 & ~0xFFu;
        _bench.Remap();
        _bench.Translate();
        Assert.False(Write(0));
        Assert.Equal("", _bench.Taken());
        Assert.Equal(3u << 30, _bench[FECTL]);
        _bench[FECTL] = 0;
        Assert.Equal("300:52", _bench.Taken());
        Assert.Equal(0u, _bench[FECTL]);
    }

    [Fact]
    public void Faults_from_other_threads_wait_for_the_lock_and_never_pile_up()
    {
        _bench.Translate();
        for (int i = 0; i < 1000; i++) Assert.False(_bench.Device.Dma.Write(0x1000, 4, 0));
        Assert.Equal(0u, _bench[FSTS]);
        Action posted = Assert.Single(_bench.Posted);
        using (_bench.Memory.Lock.Hold()) posted();
        Assert.Equal(3u, _bench[FSTS]);
    }

    [Fact]
    public void Its_state_is_saved_and_loaded() => DeviceSuite.Check(
        _ => new VtdBench().Iommu,
        device =>
        {
            var iommu = (IntelIommu)device;
            iommu.Write(RTADDR, 4, Root);
            iommu.Write(GCMD, 4, SRTP);
            iommu.Write(GCMD, 4, TE | QIE);
            iommu.Write(FECTL, 4, 0);
        });

    void StartQueue()
    {
        _bench.Long(IQA, Queue);
        _bench.Command(QIE);
    }

    bool Write(ulong address)
    {
        using (_bench.Memory.Lock.Hold()) return _bench.Device.Dma.Write(address, 4, 0);
    }

    bool Read(ulong address)
    {
        using (_bench.Memory.Lock.Hold()) return _bench.Device.Dma.Read(address, new byte[4]);
    }
}
