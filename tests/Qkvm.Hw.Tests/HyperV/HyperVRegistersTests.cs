using System.Buffers.Binary;
using Qkvm.Core.Irq;
using Qkvm.Core.State;
using Qkvm.Hw.HyperV;
using Qkvm.Hw.Intc;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.HyperV;

/// <summary>Against the Hypervisor Top Level Functional Specification 6.0b, chapters 11 and 12.</summary>
public sealed class HyperVRegistersTests : IDisposable
{
    const uint Control = 0x40000080, Version = 0x40000081, EventFlags = 0x40000082, Messages = 0x40000083,
        EndOfMessage = 0x40000084, Source = 0x40000090, Timer = 0x400000B0, Count = Timer + 1, Reset = 0x40000003,
        Crash = 0x40000100, CrashControl = 0x40000105;
    const uint Eoi = 0xB0, Svr = 0xF0;
    const ulong Page = 0x5000, Masked = 1 << 16, AutoEoi = 1 << 17;
    const ulong Enabled = 1, Periodic = 2, AutoEnable = 8, Direct = 1 << 12;
    const int Ticks = 100;                                         // nanoseconds in one

    readonly FakeClock _clock = new();
    readonly TestMemory _memory = new();
    readonly LocalApic _apic;
    readonly HyperVRegisters _registers;
    int _resets, _panics;

    public HyperVRegistersTests()
    {
        var cpu = new FakeVCpu(0, _clock);
        ApicBus? bus = null;
        var pic = new I8259Pair(new IrqLine("intr", level => bus!.SetIntr(level)));
        bus = new ApicBus(pic.Acknowledge);
        _apic = new LocalApic(cpu, 0, true, bus, _clock, _memory.Lock);
        _apic.WriteMmio(Svr, 0x1FF);
        _registers = new HyperVRegisters(cpu, _apic, _memory.Space, _clock, _memory.Lock, () => _resets++,
            () => _panics++);
    }

    public void Dispose() => _memory.Dispose();

    void Write(uint msr, ulong value) => Assert.True(_registers.WriteMsr(msr, value));
    ulong? Read(uint msr) => _registers.ReadMsr(msr, out ulong value) ? value : null;

    /// <summary>Timer 0 tells source 2, vector 52h.</summary>
    void SwitchOn(ulong source = 0x52)
    {
        Write(Control, 1);
        Write(Messages, Page | 1);
        Write(Source + 2, source);
    }

    ulong Slot(int source, int at = 0, int size = 4) => _memory.Space.Read(Page + (ulong)(source * 256 + at), size);

    [Fact]
    public void Registers_after_a_reset()
    {
        Assert.Equal((0ul, 1ul, 0ul, 0ul), (Read(Control), Read(Version), Read(EventFlags), Read(Messages)));
        for (uint i = 0; i < 16; i++) Assert.Equal(Masked, Read(Source + i));
        for (uint i = 0; i < 8; i++) Assert.Equal(0ul, Read(Timer + i));
        Assert.Null(Read(Source + 16));
        Assert.False(_registers.WriteMsr(Version, 1));
        Assert.False(_registers.WriteMsr(Source, 5));              // no vector of an APIC
        Assert.True(_registers.WriteMsr(Source, Masked | 5));
    }

    [Fact]
    public void A_timer_sends_a_message_once()
    {
        SwitchOn();
        Write(Timer, 2 << 16 | Enabled);
        Write(Count, 500);                                         // absolute
        _clock.Advance(499 * Ticks);
        Assert.False(_apic.HasInterrupt);
        _clock.Advance(Ticks);
        Assert.Equal(0x52, _apic.Acknowledge());
        Assert.Equal((0x80000010ul, 24ul, 0ul), (Slot(2), Slot(2, 4, 1), Slot(2, 5, 1)));
        Assert.Equal((0ul, 500ul, 500ul), (Slot(2, 16), Slot(2, 24, 8), Slot(2, 32, 8)));
        Assert.Equal(2ul << 16, Read(Timer));                      // no longer enabled
        _clock.Advance(10_000 * Ticks);
        Assert.False(_apic.HasInterrupt);
    }

    [Fact]
    public void A_message_waits_for_its_slot()
    {
        SwitchOn();
        Write(Timer, 2 << 16 | Enabled | Periodic);
        Write(Count, 1000);
        _clock.Advance(1000 * Ticks);
        Assert.Equal(0x52, _apic.Acknowledge());
        _apic.WriteMmio(Eoi, 0);
        _clock.Advance(1000 * Ticks);
        Assert.False(_apic.HasInterrupt);
        Assert.Equal((1000ul, 1ul), (Slot(2, 24, 8), Slot(2, 5, 1)));     // the first, flagged: more to come
        _memory.Space.Write(Page + 2 * 256, 4, 0);
        Write(EndOfMessage, 0);
        Assert.Equal(0x52, _apic.Acknowledge());
        Assert.Equal((2000ul, 0ul), (Slot(2, 24, 8), Slot(2, 5, 1)));
    }

    [Fact]
    public void A_periodic_timer_in_direct_mode_needs_no_message()
    {
        Write(Timer, 0x61 << 4 | Direct | Periodic | AutoEnable);
        Write(Count, 2000);
        for (int i = 0; i < 3; i++)
        {
            Assert.False(_apic.HasInterrupt);
            _clock.Advance(2000 * Ticks);
            Assert.Equal(0x61, _apic.Acknowledge());
            _apic.WriteMmio(Eoi, 0);
        }
        Write(Count, 0);                                           // stops it
        _clock.Advance(10_000 * Ticks);
        Assert.False(_apic.HasInterrupt);
        Assert.Equal(0ul, Read(Timer) & Enabled);
    }

    [Theory]
    [InlineData(ulong.MaxValue)] [InlineData(1ul << 62)]
    public void A_time_that_never_comes_is_no_trouble(ulong count)
    {
        Write(Timer, 0x61 << 4 | Direct | Enabled);
        Write(Count, count);
        Write(Timer + 2, 0x62 << 4 | Direct | Periodic | AutoEnable);
        Write(Count + 2, count);
        _clock.Advance(1_000_000_000);
        Assert.False(_apic.HasInterrupt);
    }

    [Fact]
    public void A_timer_without_a_source_cannot_be_enabled()
    {
        Write(Timer, Enabled);
        Assert.Equal(0ul, Read(Timer));
    }

    /// <summary>AutoEOI: the interrupt ends when it is taken, and a lower one is served next.</summary>
    [Fact]
    public void An_interrupt_that_ends_by_itself_blocks_no_other()
    {
        SwitchOn(AutoEoi | 0xA2);
        Write(Timer, 2 << 16 | Enabled);
        Write(Count, 10);
        _clock.Advance(10 * Ticks);
        Assert.Equal(0xA2, _apic.Acknowledge());
        Assert.False(_apic.TryElideEoi());
        _apic.Inject(0x41);
        Assert.Equal(0x41, _apic.Acknowledge());
        Write(Source + 2, Masked);
        _apic.WriteMmio(Eoi, 0);
        _apic.Inject(0xA2);                                        // now an interrupt as any
        Assert.Equal(0xA2, _apic.Acknowledge());
        _apic.Inject(0x41);
        Assert.Equal(-1, _apic.Acknowledge());
    }

    [Fact]
    public void A_page_outside_memory_is_no_trouble()
    {
        SwitchOn();
        Write(Messages, TestMemory.HoleAddress | 1);
        Write(Timer, 2 << 16 | Enabled);
        Write(Count, 10);
        _clock.Advance(10 * Ticks);
        Write(EndOfMessage, 0);
        Assert.Equal(TestMemory.HoleAddress | 1, Read(Messages));
    }

    [Fact]
    public void Crash_and_reset_reach_the_machine()
    {
        for (uint i = 0; i < 5; i++) Write(Crash + i, 0xC0DE + i);
        Write(CrashControl, 0);
        Assert.Equal((0, 0), (_panics, _resets));
        Write(CrashControl, 1UL << 63);
        Write(Reset, 1);
        Assert.Equal((1, 1), (_panics, _resets));
        Assert.Equal(0xC0E2ul, Read(Crash + 4));
        Assert.Equal([0xC0DEul, 0xC0DF, 0xC0E0, 0xC0E1, 0xC0E2], _registers.Crash);
    }

    [Fact]
    public void State_comes_back_with_its_timers()
    {
        SwitchOn();
        Write(Timer, 2 << 16 | Enabled);
        Write(Count, 700);
        StateNode saved = StateNode.Save(_registers.Exchange);
        _registers.Reset();
        _clock.Advance(100 * Ticks);
        saved.Load(_registers.Exchange);
        Assert.Equal((700ul, 0x52ul, Page | 1), (Read(Count), Read(Source + 2), Read(Messages)));
        _clock.Advance(600 * Ticks);
        Assert.Equal(0x52, _apic.Acknowledge());
        Assert.Equal(700ul, BinaryPrimitives.ReadUInt64LittleEndian(_memory.Bytes(Page + 2 * 256 + 24, 8)));
    }
}
