using Qkvm.Core.Irq;
using Qkvm.Core.State;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Timer;
using Qkvm.Testing;
using static Qkvm.Core.Time.TickClock;

namespace Qkvm.Hw.Tests.Timer;

/// <summary>Against the 8254 data sheet.</summary>
public class I8254Tests
{
    readonly FakeClock _clock = new();
    int _edges;

    static I8254Counter Programmed(int mode, int count, int extra = 0)
    {
        var counter = new I8254Counter();
        counter.Program((byte)(0x30 | mode << 1 | extra));
        counter.Write((byte)count, now: 0);
        counter.Write((byte)(count >> 8), now: 0);
        return counter;
    }

    static int ReadCount(I8254Counter counter, long now) => counter.Read(now) | counter.Read(now) << 8;

    [Theory]
    [InlineData(0, 1)] [InlineData(0, 1000)] [InlineData(2, 2)] [InlineData(2, 7)] [InlineData(3, 2)]
    [InlineData(3, 8)] [InlineData(3, 9)] [InlineData(4, 1)] [InlineData(4, 100)]
    public void Next_edge_is_the_first_tick_at_which_OUT_changes(int mode, int count)
    {
        I8254Counter counter = Programmed(mode, count);
        for (long tick = 0; tick < 3 * count; tick++)
        {
            (bool level, long nextEdge) = counter.Wave(tick);
            long later = tick + 1;
            while (later <= tick + 2 * count && counter.Wave(later).Out == level) later++;
            Assert.Equal(later <= tick + 2 * count ? later : Never, nextEdge);
        }
    }

    [Theory]
    [InlineData(0, 5, "000001111111")]
    [InlineData(2, 4, "111011101110")]
    [InlineData(3, 4, "110011001100")]
    [InlineData(3, 5, "111001110011")]
    [InlineData(4, 3, "111011111111")]
    public void OUT_follows_the_modes_timing_diagram(int mode, int count, string levels)
    {
        I8254Counter counter = Programmed(mode, count);
        Assert.Equal(levels, string.Concat(Enumerable.Range(0, levels.Length).Select(t =>
            counter.Wave(t).Out ? '1' : '0')));
    }

    [Theory]
    [InlineData(1, 3, "1100011111")] [InlineData(5, 3, "1111101111")]
    public void A_rising_GATE_triggers_modes_1_and_5(int mode, int count, string levels)
    {
        I8254Counter counter = Programmed(mode, count);
        counter.SetGate(false, 0);
        Assert.True(counter.Wave(0).Out && counter.Wave(1).Out);
        counter.SetGate(true, 2);
        Assert.Equal(levels[2..], string.Concat(Enumerable.Range(2, levels.Length - 2).Select(t =>
            counter.Wave(t).Out ? '1' : '0')));
    }

    [Fact]
    public void GATE_suspends_mode_0_and_restarts_mode_2()
    {
        I8254Counter mode0 = Programmed(0, 10), mode2 = Programmed(2, 10);
        mode0.SetGate(false, 4);
        mode2.SetGate(false, 9);
        Assert.Equal(6, ReadCount(mode0, 100));
        Assert.True(mode2.Wave(50).Out);
        mode0.SetGate(true, 100);
        mode2.SetGate(true, 100);
        Assert.Equal((false, 106L), mode0.Wave(105));
        Assert.Equal((true, 109L), mode2.Wave(100));
    }

    [Theory]
    [InlineData(0, 0x1234, 0x234, 0x1000)] [InlineData(0, 5, 6, 0xFFFF)] [InlineData(2, 10, 12, 8)]
    [InlineData(3, 10, 1, 8)]
    [InlineData(2, 0, 1, 0xFFFF)]
    public void Counts_run_down(int mode, int count, long ticks, int expected) =>
        Assert.Equal(expected, ReadCount(Programmed(mode, count), ticks));

    [Theory]
    [InlineData(0x1000, 1, 0x0999)] [InlineData(0x0000, 1, 0x9999)] [InlineData(0x0005, 6, 0x9999)]
    public void BCD_counts_in_four_decades(int count, long ticks, int expected) =>
        Assert.Equal(expected, ReadCount(Programmed(0, count, extra: 1), ticks));

    [Fact]
    public void Read_back_latches_status_before_count_and_a_second_latch_is_ignored()
    {
        I8254Counter counter = Programmed(2, 0x1000);
        counter.Latch(count: true, status: true, now: 0x10);
        counter.Latch(count: true, status: true, now: 0x20);
        Assert.Equal(0xB4, counter.Read(0x30));                    // OUT high, RW 3, mode 2
        Assert.Equal(0xFF0, ReadCount(counter, 0x30));
        Assert.Equal(0xFD0, ReadCount(counter, 0x30));
    }

    [Fact]
    public void Status_tells_that_no_count_was_written_yet()
    {
        var counter = new I8254Counter();
        counter.Program(0x34);
        counter.Latch(count: false, status: true, now: 0);
        Assert.Equal(0xF4, counter.Read(0));
    }

    I8254 Device() => new(_clock, new IrqLine("irq0", level => _edges += level ? 1 : 0));

    [Fact]
    public void Counter_0_interrupts_at_its_rate_and_polling_loses_no_edge()
    {
        I8254 pit = Device();
        _edges = 0;
        pit.Write(3, 1, 0x34);
        pit.Write(0, 1, 1193 & 0xFF);
        pit.Write(0, 1, 1193 >> 8);
        for (int i = 0; i < 10_000; i++)
        {
            _clock.Advance(10_000);
            pit.Write(3, 1, 0);
            pit.Read(0, 1);
            pit.Read(0, 1);
        }
        Assert.Equal(100_000_000L * I8254.Hertz / 1_000_000_000 / 1193, _edges);
    }

    /// <summary>At 250 Hz, with a processor that takes no tick until it is told to.</summary>
    (I8254 Pit, Func<bool> Take) Busy()
    {
        bool waiting = false;
        var ticks = new TickFeedback(() => waiting);
        var pit = new I8254(_clock, new IrqLine("irq0", level =>
        {
            if (!level || waiting) return;
            _edges++;
            waiting = true;
        }), ticks);
        pit.Write(3, 1, 0x34);
        pit.Write(0, 1, 4773 & 0xFF);
        pit.Write(0, 1, 4773 >> 8);
        waiting = false;
        _edges = 0;
        return (pit, () =>
        {
            if (!waiting) return false;
            waiting = false;
            ticks.Take();
            return true;
        });
    }

    [Fact]
    public void Ticks_that_no_processor_had_time_for_come_as_soon_as_it_has()
    {
        var (_, take) = Busy();
        _clock.Advance(41_000_000);
        Assert.Equal(1, _edges);
        while (take()) { }
        Assert.Equal(10, _edges);
        _clock.Advance(4_000_000);
        Assert.Equal(11, _edges);
    }

    [Fact]
    public void Of_ticks_long_past_the_last_ten_come()
    {
        var (_, take) = Busy();
        _clock.Advance(60_000_000_000);
        while (take()) { }
        // also the one that waited, and one for all that were given up
        Assert.InRange(_edges, 10, 12);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4)]
    public void A_single_shot_interrupts_however_late_the_host_is(int mode)
    {
        var pit = new I8254(_clock, new IrqLine("irq0", level => { if (level) _edges++; }));
        pit.Write(3, 1, (ulong)(0x30 | mode << 1));
        _edges = 0;                                                // of mode 4 OUT begins high
        pit.Write(0, 1, 15);
        pit.Write(0, 1, 0);
        _clock.Jump(1_000_000_000);
        Assert.Equal(1, _edges);
    }

    [Fact]
    public void A_tick_that_waits_is_looked_at_as_late_after_loading()
    {
        var (pit, _) = Busy();
        _clock.Advance(41_000_000);
        int looks = 0;
        var loaded = new I8254(_clock, IrqLine.Unconnected("irq0"), new TickFeedback(() => ++looks > 0));
        StateNode.Save(pit.Exchange).Load(loaded.Exchange);
        Assert.Equal(StateNode.Save(pit.Exchange).ToString(), StateNode.Save(loaded.Exchange).ToString());
        _clock.Advance(0);
        Assert.Equal(0, looks);                                    // it was looked at before saving
        _clock.Advance(4_000_000);
        Assert.NotEqual(0, looks);
    }

    [Fact]
    public void A_new_count_forgets_the_ticks_that_were_missed()
    {
        var (pit, take) = Busy();
        _clock.Advance(41_000_000);
        pit.Write(0, 1, 4773 & 0xFF);
        pit.Write(0, 1, 4773 >> 8);
        while (take()) { }
        Assert.Equal(1, _edges);
    }

    [Fact]
    public void Port_61_gates_and_shows_counter_2_and_toggles_refresh()
    {
        I8254 pit = Device();
        var port = new SystemControlPort(pit, _clock);
        pit.Write(3, 1, 0xB0);
        pit.Write(2, 1, 100);
        pit.Write(2, 1, 0);
        _clock.Advance(1_000_000);
        Assert.Equal(0UL, port.Read(0, 1) & 0x20);                 // the gate is low: nothing counts
        port.Write(0, 1, 1);
        Assert.Equal(1UL, port.Read(0, 1) & 0x21);
        _clock.Advance(100 * 1_000_000_000L / I8254.Hertz + 1000);
        Assert.Equal(0x21UL, port.Read(0, 1) & 0x21);
        ulong refresh = port.Read(0, 1) & 0x10;
        _clock.Advance(15_086);
        Assert.NotEqual(refresh, port.Read(0, 1) & 0x10);
    }

    /// <summary>"Mode 0": the first byte of two disables counting and sets OUT low; the second loads. GATE changes
    /// nothing between.</summary>
    [Fact]
    public void Half_a_count_stops_mode_0()
    {
        I8254Counter counter = Programmed(0, 10);
        Assert.True(counter.Wave(20).Out);
        Assert.True(counter.Write(5, now: 20));
        Assert.Equal((false, Never), counter.Wave(20));
        counter.SetGate(false, 25);
        counter.SetGate(true, 30);
        Assert.Equal((false, Never), counter.Wave(1000));
        counter.Write(0, now: 1000);
        Assert.Equal((false, 1005L), counter.Wave(1000));
        Assert.True(counter.Wave(1005).Out);

        I8254Counter early = Programmed(0, 10);
        early.Write(3, now: 4);
        Assert.Equal(6, early.Read(50) | early.Read(50) << 8);          // it stands
    }

    [Theory]
    [InlineData(2)] [InlineData(3)] [InlineData(4)]
    public void Half_a_count_leaves_the_other_modes_alone(int mode)
    {
        I8254Counter counter = Programmed(mode, 10), other = Programmed(mode, 10);
        Assert.False(counter.Write(5, now: 3));
        for (long tick = 3; tick < 30; tick++) Assert.Equal(other.Wave(tick), counter.Wave(tick));
    }

    /// <summary>"Mode 2" and "Mode 3": a new count does not affect the current sequence; it is loaded at the end of the
    /// cycle, in mode 3 of the half-cycle. NULL COUNT tells that it waits.</summary>
    [Theory]
    [InlineData(2, 6, 3, 8, "11101110" + "110110110")]
    [InlineData(2, 7, 5, 8, "11101110" + "1111011110")]
    [InlineData(3, 5, 6, 6, "110011" + "000111000111")]
    [InlineData(3, 7, 6, 8, "11001100" + "111000111000")]
    [InlineData(3, 7, 5, 8, "11001100" + "1110011100")]
    public void A_new_count_waits_for_the_end_of_the_sequence(int mode, int at, int count, int from, string levels)
    {
        const int StatusNullCount = 0x40;
        I8254Counter counter = Programmed(mode, 4);
        string seen = "";
        for (int tick = 0; tick < levels.Length; tick++)
        {
            if (tick == at) { counter.Write((byte)count, tick); counter.Write(0, tick); }
            (bool level, long next) = counter.Wave(tick);
            seen += level ? '1' : '0';
            int edge = levels.IndexOf(level ? '0' : '1', tick);
            if (tick >= at && edge >= 0) Assert.Equal(edge, next);
            counter.Latch(count: false, status: true, tick);
            Assert.Equal(tick >= at && tick < from, (counter.Read(tick) & StatusNullCount) != 0);
        }
        Assert.Equal(levels, seen);
    }

    [Theory]
    [InlineData(2)] [InlineData(3)]
    public void A_trigger_loads_a_new_count_at_once(int mode)
    {
        I8254Counter counter = Programmed(mode, 100);
        counter.Write(20, now: 10);
        counter.Write(0, now: 10);
        counter.SetGate(false, 12);
        counter.Write(30, now: 200);                               // and a second one while the gate is low
        counter.Write(0, now: 200);
        counter.SetGate(true, 300);
        Assert.Equal(30, ReadCount(counter, 300));
        Assert.Equal(300L + (mode == 2 ? 29 : 15), counter.Wave(300).NextEdge);
    }

    [Fact]
    public void NULL_COUNT_stays_until_a_trigger_in_mode_1()
    {
        I8254Counter counter = Programmed(1, 10);
        counter.Latch(count: false, status: true, now: 5);
        Assert.Equal(0xF2, counter.Read(5));
        counter.SetGate(false, 6);
        counter.SetGate(true, 7);
        counter.Latch(count: false, status: true, now: 8);
        Assert.Equal(0x32, counter.Read(8));
    }

    /// <summary>The interrupts keep the old period up to its end.</summary>
    [Fact]
    public void Counter_0_goes_over_to_a_new_period_without_a_short_one()
    {
        List<long> edges = [];
        var pit = new I8254(_clock, new IrqLine("irq0", level =>
        {
            if (level) edges.Add(_clock.Nanoseconds * I8254.Hertz / 1_000_000_000);
        }));
        pit.Write(3, 1, 0x34);
        edges.Clear();
        pit.Write(0, 1, 10_000 & 0xFF);
        pit.Write(0, 1, 10_000 >> 8);
        _clock.Advance(20_000_000);                                // 23,863 ticks
        pit.Write(0, 1, 2_000 & 0xFF);
        pit.Write(0, 1, 2_000 >> 8);
        _clock.Advance(10_000_000);
        Assert.Equal([10_000, 20_000, 30_000, 32_000, 34_000], edges);
    }
}
