using Qkvm.Hw.Iommu;
using static Qkvm.Hw.Tests.Iommu.VtdBench;

namespace Qkvm.Hw.Tests.Iommu;

/// <summary>Interrupt remapping, against VT-d sections 5.1 and 9.10.</summary>
public sealed class InterruptRemappingTests : IDisposable
{
    const ulong Compatible = 0xFEE0_0000, Remappable = Compatible | 1 << 4, Subhandle = 1 << 3;

    readonly VtdBench _bench = new();

    public void Dispose() => _bench.Dispose();

    /// <summary>Index 3, edge, fixed, to a processor, from the card alone.</summary>
    void Entry(uint destination, byte vector, ulong more = 0, ulong high = 1UL << 18 | Source, int index = 3) =>
        _bench.Put(Interrupts + (ulong)index * 16, (ulong)destination << 32 | (ulong)vector << 16 | more | 1, high);

    static ulong Index(uint index) => Remappable | (index & 0x7FFF) << 5 | (index >> 15) << 2;

    void Send(ulong address, uint data)
    {
        using (_bench.Memory.Lock.Hold()) _bench.Device.MsiTarget.Send(address, data);
    }

    [Fact]
    public void While_it_is_off_messages_are_as_they_are()
    {
        Send(Compatible | 1 << 12, 0x31);
        Assert.Equal("1:31", _bench.Taken());
    }

    [Fact]
    public void A_message_goes_where_its_entry_says_to_ids_of_more_than_8_bits_too()
    {
        _bench.Remap();
        Entry(300, 0x61);
        Send(Index(3), 0);
        Assert.Equal("300:61", _bench.Taken());
        Send(Index(1) | Subhandle, 2);
        Assert.Equal("300:61", _bench.Taken());
        Assert.True(_bench.Device.MsiTarget.TryPost(Index(3), 0));
        Assert.Equal("300:61", _bench.Taken());
        Assert.Equal(0u, _bench[FSTS]);
    }

    [Fact]
    public void Logical_destinations_are_clusters_and_narrow_entries_have_8_bits()
    {
        _bench.Remap();
        Entry(300 / 16 << 16 | 1 << 300 % 16, 0x62, more: 1 << 2);
        Send(Index(3), 0);
        Assert.Equal("300:62", _bench.Taken());
        Entry(0b11, 0x63, more: 1 << 2 | 1 << 3);                  // the one of lowest priority of two
        Send(Index(3), 0);
        Assert.Matches("^[01]:63$", _bench.Taken());
        _bench.Remap(wide: false);
        Entry(1 << 8, 0x64);
        Send(Index(3), 0);
        Assert.Equal("1:64", _bench.Taken());
    }

    [Fact]
    public void The_IO_APIC_asks_as_its_own_source()
    {
        _bench.Remap();
        Entry(300, 0x71, more: 1 << 4, high: 1UL << 18 | IntelIommu.IoApicSource);
        Redirect(5, high: 3 << 17 | 1 << 16, low: 5 | 1 << 15);
        _bench.IoApic.SetIrq(5, true);
        Assert.Equal("300:71", _bench.Taken());
        Assert.Equal("", _bench.Taken());                          // the end of 71h tells nothing of entry 5
        _bench.IoApic.Write(0x40, 4, 5);                           // still high: again
        Assert.Equal("300:71", _bench.Taken());
        Send(Index(3), 0);
        Assert.Equal(0x26, FaultOf());
    }

    [Theory]
    [InlineData(0)] [InlineData(1)] [InlineData(2)] [InlineData(3)]
    public void Sources_are_verified(int qualifier)
    {
        _bench.Remap();
        // a function that differs in the bits which the qualifier leaves out
        ushort other = (ushort)(Source | new[] { 0, 4, 6, 7 }[qualifier]), wrong = (ushort)(other ^ 1);
        Entry(1, 0x41, high: 1UL << 18 | (ulong)qualifier << 16 | other);
        Send(Index(3), 0);
        Assert.Equal("1:41", _bench.Taken());
        if (qualifier == 3) return;
        Entry(1, 0x41, high: 1UL << 18 | (ulong)qualifier << 16 | wrong);
        Send(Index(3), 0);
        Assert.Equal("", _bench.Taken());
        Assert.Equal(0x26, FaultOf());
    }

    [Theory]
    [InlineData(0, 0, true)] [InlineData(0, 5, true)] [InlineData(1, 5, false)]
    public void A_range_of_buses_can_be_the_source(int first, int last, bool allowed)
    {
        _bench.Remap();
        Entry(1, 0x41, high: 2UL << 18 | (ulong)first << 8 | (uint)last);
        Send(Index(3), 0);
        Assert.Equal(allowed ? "1:41" : "", _bench.Taken());
    }

    [Theory]
    [InlineData(0x21, 16, 1UL, 0UL)]                               // beyond a table of 16
    [InlineData(0x22, 4, 0UL, 0UL)]
    [InlineData(0x24, 3, 1UL | 1 << 15, 0UL)]                      // posted, which is not offered
    [InlineData(0x24, 3, 1UL, 1UL << 20)]
    [InlineData(0x24, 3, 1UL, 3UL << 18)]
    public void What_cannot_be_is_a_fault(byte fault, int index, ulong low, ulong high)
    {
        _bench.Remap();
        _bench.Put(Interrupts + (ulong)index * 16, low, high);
        Send(Index((uint)index), 0);
        Assert.Equal("", _bench.Taken());
        Assert.Equal(fault, FaultOf());
        Assert.Equal((ulong)index, _bench.Long(FRCD) >> 48);
        Assert.Equal(Source, (ushort)_bench.Long(FRCD + 8));
    }

    [Fact]
    public void Entries_can_keep_their_faults_off_the_record_and_tables_can_be_nowhere()
    {
        _bench.Remap();
        _bench.Put(Interrupts + 4 * 16, 2, 0);
        Send(Index(4), 0);
        Assert.Equal(0u, _bench[FSTS]);
        _bench.Long(IRTA, 0x3000_0000 | 15);
        _bench.Command(SIRTP);
        Send(Index(0xFFFF) | Subhandle, 0);
        Assert.Equal(0x23, FaultOf());
    }

    [Fact]
    public void Messages_of_the_old_format_pass_only_where_software_lets_them()
    {
        _bench.Remap(wide: false);
        Send(Compatible | 1 << 12, 0x31);
        Assert.Equal("", _bench.Taken());
        Assert.Equal(0x25, FaultOf());
        _bench.Command(CFI);
        Send(Compatible | 1 << 12, 0x31);
        Assert.Equal("1:31", _bench.Taken());
        _bench.Remap(wide: true);
        Send(Compatible | 1 << 12, 0x31);
        Assert.Equal("", _bench.Taken());
    }

    /// <summary>Of the record, which is free again.</summary>
    int FaultOf()
    {
        int fault = (byte)(_bench.Long(FRCD + 8) >> 32);
        _bench[FRCD + 12] = 1u << 31;
        return fault;
    }

    void Redirect(int input, uint high, uint low)
    {
        Write(0x11 + input * 2, high);
        Write(0x10 + input * 2, low);

        void Write(int index, uint value)
        {
            _bench.IoApic.Write(0x00, 4, (ulong)index);
            _bench.IoApic.Write(0x10, 4, value);
        }
    }
}
