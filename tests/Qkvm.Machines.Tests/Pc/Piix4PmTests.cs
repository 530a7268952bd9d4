using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Pc;

public sealed class Piix4PmTests
{
    const ulong Base = 0x600, Status = Base, Enable = Base + 2, Control = Base + 4, Timer = Base + 8;
    const int DevFn = 1 << 3 | 3;
    const long NanosecondsToOverflow = (0x800000L * 1_000_000_000 + 3_579_544) / 3_579_545;

    readonly FakeClock _clock = new();
    readonly AddressSpace _ports = TestBus.Ports();
    readonly List<bool> _sci = [];
    readonly Piix4Pm _pm;
    readonly PciBus _bus;
    readonly List<SleepState> _slept = [];

    public Piix4PmTests()
    {
        _pm = new Piix4Pm(_clock, _ports, new IrqLine("sci", _sci.Add), _slept.Add);
        _bus = TestBus.Make([_ => { }, _ => { }, _ => { }, _ => { }], _ports);
        _bus.Plug(_pm, DevFn);
        _bus.WriteConfig(DevFn, 0x40, 4, (uint)Base | 1);
        _bus.WriteConfig(DevFn, 0x80, 1, 1);
    }

    [Fact]
    public void The_registers_appear_where_PMBA_says_and_only_while_PMIOSE_is_set()
    {
        Assert.Equal(0u, _ports.Read(Control, 2));
        _bus.WriteConfig(DevFn, 0x40, 4, 0x4001);
        Assert.Equal(0xFFFFu, _ports.Read(Control, 2));
        Assert.Equal(0u, _ports.Read(0x4004, 2));
        _bus.WriteConfig(DevFn, 0x80, 1, 0);
        Assert.Equal(0xFFFFu, _ports.Read(0x4004, 2));
    }

    [Theory]
    [InlineData(0, 0)] [InlineData(1_000_000_000, 3_579_545)] [InlineData(10_000_000_000, 35_795_450 % (1 << 24))]
    public void The_timer_counts_3_579545_MHz_in_24_bits(long nanoseconds, uint count)
    {
        _clock.Advance(nanoseconds);
        Assert.Equal(count, _ports.Read(Timer, 4));
    }

    [Fact]
    public void Each_change_of_the_timer_s_top_bit_sets_TMR_STS_and_interrupts_while_enabled()
    {
        _ports.Write(0xB2, 1, Piix4Pm.AcpiEnable);
        _ports.Write(Enable, 2, 1);
        _clock.Advance(NanosecondsToOverflow - 1000);
        Assert.Equal(0u, _ports.Read(Status, 2) & 1);
        Assert.Empty(_sci);
        _clock.Advance(1000);
        Assert.Equal([true], _sci);
        Assert.Equal(1u, _ports.Read(Status, 2) & 1);

        _ports.Write(Status, 2, 1);
        Assert.Equal([true, false], _sci);
        _clock.Advance(NanosecondsToOverflow);
        Assert.Equal([true, false, true], _sci);
    }

    [Fact]
    public void TMR_STS_sets_without_its_interrupt_too()
    {
        _clock.Advance(NanosecondsToOverflow);
        Assert.Equal(1u, _ports.Read(Status, 2));
        Assert.Empty(_sci);
    }

    [Theory]
    [InlineData(0x2000, SleepState.SoftOff)]
    [InlineData(0x2800, SleepState.ToDisk)]
    [InlineData(0x2400, SleepState.ToRam)]
    [InlineData(0x2C00, null)]                                     // no such type
    [InlineData(0x0400, null)]                                     // SLP_EN clear
    public void Sleep_enable_sleeps_as_the_type_says(uint control, SleepState? state)
    {
        _ports.Write(Control, 2, control);
        Assert.Equal(state is { } slept ? [slept] : [], _slept);
        Assert.Equal(0u, _ports.Read(Control, 2) & 0x2000);        // write-only
    }

    [Theory]
    [InlineData(WakeCause.Other, 0x8100, true)] [InlineData(WakeCause.RtcAlarm, 0x8400, false)]
    public void What_wakes_is_told_and_must_be_enabled_but_for_the_button(WakeCause cause, uint status, bool always)
    {
        Assert.Equal(always, _pm.Acpi.WakesBy(cause));
        _ports.Write(Enable, 2, status & 0x7FFF);
        Assert.True(_pm.Acpi.WakesBy(cause));
        _pm.Acpi.Wake(cause);
        Assert.Equal(status, _ports.Read(Status, 2));
    }

    [Fact]
    public void The_SMI_command_port_turns_ACPI_on_and_off()
    {
        _ports.Write(0xB2, 1, Piix4Pm.AcpiEnable);
        Assert.Equal(1u, _ports.Read(Control, 2) & 1);
        _ports.Write(0xB2, 1, Piix4Pm.AcpiDisable);
        Assert.Equal(0u, _ports.Read(Control, 2) & 1);
    }

    [Fact]
    public void The_power_button_interrupts_once_its_event_is_enabled()
    {
        _ports.Write(0xB2, 1, Piix4Pm.AcpiEnable);
        _pm.Acpi.PressPowerButton();
        Assert.Empty(_sci);
        _ports.Write(Enable, 2, 0x100);
        Assert.Empty(_sci);
        _pm.Acpi.PressPowerButton();
        Assert.Equal([true], _sci);
        Assert.Equal(0x100u, _ports.Read(Status, 2) & 0x100);
        _ports.Write(Status + 1, 1, 1);
        Assert.Equal([true, false], _sci);
    }

    [Fact]
    public void Status_and_enable_can_be_read_as_one_dword()
    {
        _ports.Write(Enable, 2, 0x0121);
        Assert.Equal(0x0121_0000u, _ports.Read(Status, 4));
    }

    [Fact]
    public void The_SMBus_host_is_idle_and_every_transaction_finds_nobody()
    {
        Assert.Equal(0u, _ports.Read(0xB100, 1));
        _ports.Write(0xB102, 1, 0x48);
        Assert.Equal(4u, _ports.Read(0xB100, 1));
        _ports.Write(0xB100, 1, 4);
        Assert.Equal(0u, _ports.Read(0xB100, 1));
    }

    [Fact]
    public void Loading_takes_registers_and_places_over_without_an_edge()
    {
        _ports.Write(0xB2, 1, Piix4Pm.AcpiEnable);
        _ports.Write(Enable, 2, 1);
        _clock.Advance(NanosecondsToOverflow);
        Assert.Equal([true], _sci);
        StateNode saved = StateNode.Save(_pm.Exchange);

        var ports = TestBus.Ports();
        var seen = new List<bool>();
        var copy = new Piix4Pm(_clock, ports, new IrqLine("sci", seen.Add), _ => { });
        TestBus.Make([_ => { }, _ => { }, _ => { }, _ => { }], ports).Plug(copy, DevFn);
        saved.Load(copy.Exchange);
        Assert.Empty(seen);
        Assert.Equal(saved.ToString(), StateNode.Save(copy.Exchange).ToString());
        Assert.Equal(1u, ports.Read(Status, 2));
        ports.Write(Status, 2, 1);
        Assert.Equal([false], seen);
    }

    [Fact]
    public void Reset_equals_new()
    {
        var fresh = new Piix4Pm(_clock, TestBus.Ports(), IrqLine.Unconnected("sci"), _ => { });
        TestBus.Make([_ => { }, _ => { }, _ => { }, _ => { }]).Plug(fresh, DevFn);
        _ports.Write(0xB2, 1, Piix4Pm.AcpiEnable);
        _ports.Write(Enable, 2, 0x121);
        _ports.Write(0xAFE2, 1, 0xFF);
        _pm.Reset();
        Assert.Equal(StateNode.Save(fresh.Exchange).ToString(), StateNode.Save(_pm.Exchange).ToString());
    }
}
