using Qkvm.Core.Irq;
using Qkvm.Hw.Timer;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Timer;

/// <summary>Against the IA-PC HPET specification 1.0a.</summary>
public class HpetTests
{
    const ulong Capabilities = 0, Configuration = 0x10, Status = 0x20, Counter = 0xF0, Timer0 = 0x100, Timer2 = 0x140,
        Comparator = 8;

    readonly FakeClock _clock = new();
    readonly Dictionary<int, IrqLine> _lines = [];
    readonly Dictionary<int, int> _edges = [];
    readonly Hpet _hpet;

    public HpetTests() => _hpet = new Hpet(_clock, Wire, routes: 0x00FF0104);

    IrqLine Wire(int gsi)
    {
        _edges[gsi] = 0;
        return _lines[gsi] = new IrqLine($"gsi{gsi}", level => _edges[gsi] += level ? 1 : 0);
    }

    void Write(ulong register, ulong value) => _hpet.Write(register, 8, value);
    ulong Read(ulong register) => _hpet.Read(register, 8);

    [Theory]
    [InlineData(Capabilities, 0x00989680_8086A201UL)] [InlineData(Configuration, 0)] [InlineData(Counter, 0)]
    [InlineData(Timer0, 0x00FF0104_00000030UL)] [InlineData(Timer0 + Comparator, ulong.MaxValue)] [InlineData(0x160, 0)]
    public void Registers_start_with_the_reset_values(ulong register, ulong value)
    {
        Assert.Equal(value, Read(register));
        Assert.Equal(value >> 32, _hpet.Read(register + 4, 4));
    }

    [Fact]
    public void The_counter_runs_at_100_MHz_while_enabled_and_is_writable_while_halted()
    {
        Write(Counter, 1000);
        _clock.Advance(50_000);
        Assert.Equal(1000UL, Read(Counter));
        Write(Configuration, 1);
        _clock.Advance(50_000);
        Assert.Equal(6000UL, Read(Counter));
        Write(Counter, 0);
        Assert.Equal(6000UL, Read(Counter));
        Write(Configuration, 0);
        _hpet.Write(Counter + 4, 4, 7);
        Assert.Equal(0x7_00001770UL, Read(Counter));
    }

    [Theory]
    [InlineData(41_000_000, 10, 10)]
    [InlineData(60_000_000_000, 10, 11)]
    public void In_the_8254s_place_missed_ticks_come_as_soon_as_a_processor_takes_them(long nanoseconds, int least,
        int most)
    {
        bool waiting = false;
        int edges = 0;
        var ticks = new TickFeedback(() => waiting);
        var hpet = new Hpet(_clock, gsi => new IrqLine($"gsi{gsi}", level =>
        {
            if (gsi != 0 || !level) return;
            Assert.False(waiting);
            waiting = true;
            edges++;
        }), routes: 0x00FF0104, ticks);
        hpet.Write(Timer0, 8, 1 << 6 | 8 | 4);
        hpet.Write(Timer0 + Comparator, 8, 400_000);
        hpet.Write(Timer0 + Comparator, 8, 400_000);
        hpet.Write(Configuration, 8, 3);
        _clock.Advance(nanoseconds);
        Assert.Equal(1, edges);
        while (waiting)
        {
            waiting = false;
            ticks.Take();
        }
        Assert.InRange(edges, least, most);
        int before = edges;
        _clock.Advance(4_000_000);
        Assert.Equal(before + 1, edges);
    }

    [Fact]
    public void A_one_shot_edge_matches_once()
    {
        Write(Timer0, 16 << 9 | 4);
        Write(Timer0 + Comparator, 100);
        Write(Configuration, 1);
        _clock.Advance(999);
        Assert.Equal(0, _edges[16]);
        _clock.Advance(1);
        Assert.Equal(1, _edges[16]);
        Assert.False(_lines[16].Level);
        _clock.Advance(1_000_000);
        Assert.Equal(1, _edges[16]);
        Assert.Equal(0UL, Read(Status));
    }

    [Fact]
    public void A_level_stays_until_its_status_is_cleared()
    {
        Write(Timer2, 20 << 9 | 6);
        Write(Timer2 + Comparator, 100);
        Write(Configuration, 1);
        _clock.Advance(1000);
        Assert.True(_lines[20].Level);
        Assert.Equal(4UL, Read(Status));
        Write(Status, 3);
        Assert.True(_lines[20].Level);
        Write(Status, 4);
        Assert.False(_lines[20].Level);
    }

    [Theory]
    [InlineData(0x000)] [InlineData(0x100)]
    public void A_periodic_timer_starts_at_the_set_value_and_repeats_with_its_period(uint mode32)
    {
        Write(Configuration, 1);
        Write(Timer0, 16 << 9 | 0x4C | mode32);
        _hpet.Write(Timer0 + Comparator, mode32 != 0 ? 4 : 8, 5000);
        _hpet.Write(Timer0 + Comparator, mode32 != 0 ? 4 : 8, 10_000);
        _clock.Advance(50_000 - 1);
        Assert.Equal(0, _edges[16]);
        _clock.Advance(1);
        Assert.Equal(1, _edges[16]);
        Assert.Equal(15_000UL, Read(Timer0 + Comparator));
        _clock.Advance(10 * 100_000);
        Assert.Equal(11, _edges[16]);
    }

    [Fact]
    public void A_32_bit_timer_compares_the_low_half()
    {
        Write(Counter, 0x5_FFFFFFF0);
        Write(Timer0, 16 << 9 | 0x104);
        Write(Timer0 + Comparator, 0x10);
        Write(Configuration, 1);
        _clock.Advance(319);
        Assert.Equal(0, _edges[16]);
        _clock.Advance(1);
        Assert.Equal(1, _edges[16]);
    }

    [Fact]
    public void Legacy_replacement_takes_IRQ_0_and_8_from_the_8254_and_the_clock()
    {
        _hpet.SetPit(true);
        Assert.True(_lines[0].Level);
        Write(Timer0, 4);
        Write(Timer0 + Comparator, 100);
        Write(Configuration, 3);
        Assert.False(_lines[0].Level);
        _hpet.SetPit(false);
        _hpet.SetPit(true);
        _hpet.SetRtc(true);
        Assert.Equal((1, 0), (_edges[0], _edges[8]));
        _clock.Advance(1000);
        Assert.Equal(2, _edges[0]);
        Write(Configuration, 1);
        Assert.True(_lines[0].Level && _lines[8].Level);
    }

    [Fact]
    public void The_shortest_period_does_not_stop_the_machine()
    {
        Write(Timer0, 16 << 9 | 0x4C);
        Write(Timer0 + Comparator, 1);
        Write(Configuration, 1);
        _clock.Advance(1_000_000);
        Assert.InRange(_edges[16], 1, 100_000);
    }
}
