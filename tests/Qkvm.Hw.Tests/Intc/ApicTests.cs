using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Hw.Intc;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Intc;

/// <summary>Against the Intel SDM, volume 3, chapter 11, and the 82093AA data sheet.</summary>
public class ApicTests
{
    const uint Eoi = 0xB0, Tpr = 0x80, Ppr = 0xA0, Ldr = 0xD0, Dfr = 0xE0, Svr = 0xF0, Isr = 0x100, Irr = 0x200,
        Esr = 0x280, IcrLow = 0x300,
        IcrHigh = 0x310, LvtTimer = 0x320, Lint0 = 0x350, Lint1 = 0x360, LvtError = 0x370, InitialCount = 0x380,
        CurrentCount = 0x390, Divide = 0x3E0;
    const ulong BaseX2Apic = 0xC00;

    readonly FakeClock _clock = new();
    readonly I8259Pair _pic;
    readonly ApicBus _bus;
    readonly IoApic _ioApic;
    readonly FakeVCpu[] _cpus;
    readonly LocalApic[] _apics;

    public ApicTests()
    {
        _bus = new ApicBus(() => _pic!.Acknowledge());
        _pic = new I8259Pair(new IrqLine("intr", _bus.SetIntr));
        _ioApic = new IoApic(_bus);
        _cpus = [.. Enumerable.Range(0, 3).Select(i => new FakeVCpu(i, _clock))];
        var machineLock = new MachineLock();
        _apics = [.. _cpus.Select(cpu => new LocalApic(cpu, cpu.Index, cpu.Index == 0, _bus, _clock, machineLock))];
        foreach (LocalApic apic in _apics) apic.WriteMmio(Svr, 0x1FF);
    }

    LocalApic Apic => _apics[0];

    void Redirect(int input, uint low, byte destination)
    {
        IoApicWrite(0x10 + input * 2 + 1, (uint)destination << 24);
        IoApicWrite(0x10 + input * 2, low);
    }

    void IoApicWrite(int index, uint value)
    {
        _ioApic.Write(0x00, 4, (ulong)index);
        _ioApic.Write(0x10, 4, value);
    }

    uint IoApicRead(int index)
    {
        _ioApic.Write(0x00, 4, (ulong)index);
        return (uint)_ioApic.Read(0x10, 4);
    }

    /// <summary>How many ticks of 250 Hz a processor gets that was away for 40 ms.</summary>
    int TicksAfterAbsence(Action<bool> wire, Func<bool> isWaiting, Action end)
    {
        var ticks = new TickFeedback(isWaiting);
        _bus.Taken += ticks.Take;
        var pit = new Qkvm.Hw.Timer.I8254(_clock, new IrqLine("irq0", wire), ticks);
        pit.Write(3, 1, 0x34);
        pit.Write(0, 1, 4773 & 0xFF);
        pit.Write(0, 1, 4773 >> 8);
        while (Apic.HasInterrupt) Take();
        _clock.Advance(41_000_000);
        int taken = 0;
        for (; Apic.HasInterrupt; taken++) Take();
        return taken;

        void Take()
        {
            Assert.Equal(0x30, Apic.Acknowledge());
            end();
        }
    }

    [Fact]
    public void Timer_ticks_that_would_be_lost_in_IRR_wait_until_it_is_free()
    {
        Redirect(2, 0x30, 0);
        Assert.Equal(10,
            TicksAfterAbsence(level => _ioApic.SetIrq(2, level), () => _ioApic.IsWaiting(2),
            () => Apic.WriteMmio(Eoi, 0)));
    }

    [Fact]
    public void Timer_ticks_that_would_be_lost_in_the_8259_wait_until_it_is_free()
    {
        foreach ((ulong port, ulong value) in ((ulong, ulong)[])[(0, 0x11), (1, 0x30), (1, 4), (1, 1), (1, 0xFE)])
            _pic.Master.Write(port, 1, value);
        Assert.Equal(10, TicksAfterAbsence(level => _pic.SetIrq(0, level), () => _pic.Master.IsWaiting(0)
            && _bus.TakesIntr,
            () => _pic.Master.Write(0, 1, 0x20)));
    }

    [Fact]
    public void An_interrupt_moves_from_IRR_to_ISR_and_EOI_ends_it()
    {
        _bus.Send(0xFEE00000, 0x41);
        Assert.True(Apic.HasInterrupt);
        Assert.Equal(1, _cpus[0].Wakeups);
        Assert.Equal(2u, Apic.ReadMmio(Irr + 0x20));
        Assert.Equal(0x41, Apic.Acknowledge());
        Assert.False(Apic.HasInterrupt);
        Assert.Equal(0u, Apic.ReadMmio(Irr + 0x20));
        Assert.Equal(2u, Apic.ReadMmio(Isr + 0x20));
        Assert.Equal(0x40u, Apic.ReadMmio(Ppr));
        Apic.WriteMmio(Eoi, 0);
        Assert.Equal(0u, Apic.ReadMmio(Isr + 0x20));
        Assert.Equal(-1, Apic.Acknowledge());
    }

    [Fact]
    public void A_posted_message_waits_beside_IRR_until_somebody_looks()
    {
        Assert.True(_bus.TryPost(0xFEE00000, 0x41));
        Assert.True(_bus.TryPost(0xFEE00000, 0x52));
        Assert.True(Apic.HasInterrupt);
        Assert.Equal(1, _cpus[0].Wakeups);                         // the second finds the processor called already
        Assert.Equal(0x52, Apic.Acknowledge());
        Assert.Equal(2u, Apic.ReadMmio(Irr + 0x20));
        Apic.WriteMmio(Eoi, 0);
        Assert.Equal(0x41, Apic.Acknowledge());
        Apic.WriteMmio(Eoi, 0);
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void A_posted_message_below_the_task_priority_is_held_back_and_comes_later()
    {
        Apic.WriteMmio(Tpr, 0x50);
        Assert.True(_bus.TryPost(0xFEE00000, 0x4A));
        Assert.Equal(-1, Apic.Acknowledge());
        Assert.False(Apic.HasInterrupt);                           // or a halted processor would never sleep
        Apic.WriteMmio(Tpr, 0);
        Assert.True(Apic.HasInterrupt);
        Assert.Equal(0x4A, Apic.Acknowledge());
    }

    [Theory]
    [InlineData(0x441)]                                            // NMI
    [InlineData(0x8041)]                                           // level triggered
    [InlineData(0x05)]                                             // an illegal vector, which is an error in ESR
    public void Messages_that_change_more_than_IRR_need_the_lock(uint data)
    {
        Assert.False(_bus.TryPost(0xFEE00000, data));
        Assert.False(Apic.HasInterrupt);
        Assert.Equal(0, _cpus[0].Wakeups);
    }

    [Fact]
    public void A_posted_message_is_saved()
    {
        _bus.TryPost(0xFEE00000, 0x41);
        StateNode saved = StateNode.Save(Apic.Exchange);
        Apic.Acknowledge();
        Apic.WriteMmio(Eoi, 0);
        saved.Load(Apic.Exchange);
        Assert.Equal(0x41, Apic.Acknowledge());
    }

    [Theory]
    [InlineData(0x00, true)] [InlineData(0x3F, true)] [InlineData(0x40, false)] [InlineData(0x4F, false)]
    [InlineData(0x50, false)]
    public void The_task_priority_holds_back_its_class_and_below(uint tpr, bool passes)
    {
        Apic.WriteMmio(Tpr, tpr);
        _bus.Send(0xFEE00000, 0x4A);
        Assert.Equal(passes, Apic.HasInterrupt);
        Apic.Cr8 = 0;
        Assert.True(Apic.HasInterrupt);
    }

    [Fact]
    public void A_higher_class_interrupts_a_served_one_and_the_same_class_waits()
    {
        _bus.Send(0xFEE00000, 0x55);
        Assert.Equal(0x55, Apic.Acknowledge());
        _bus.Send(0xFEE00000, 0x5F);
        Assert.False(Apic.HasInterrupt);
        _bus.Send(0xFEE00000, 0x60);
        Assert.Equal(0x60, Apic.Acknowledge());
        Apic.WriteMmio(Eoi, 0);
        Apic.WriteMmio(Eoi, 0);
        Assert.Equal(0x5F, Apic.Acknowledge());
    }

    [Fact]
    public void An_elided_EOI_ends_the_interrupt_when_it_is_settled()
    {
        _bus.Send(0xFEE00000, 0x51);
        Assert.Equal(0x51, Apic.Acknowledge());
        Assert.True(Apic.TryElideEoi());
        int wakeups = _cpus[0].Wakeups;
        _bus.Send(0xFEE00000, 0x52);                                // cannot be taken, but somebody must look
        Assert.Equal((wakeups + 1, false, true), (_cpus[0].Wakeups, Apic.HasInterrupt, Apic.HasWaiting));
        Apic.SettleEoi(isEnded: true);
        Assert.True(Apic.HasInterrupt);
        Assert.Equal(0x52, Apic.Acknowledge());
        Assert.Equal(0x40000u, Apic.ReadMmio(Isr + 0x20));
    }

    [Fact]
    public void An_EOI_that_was_elided_may_come_after_all_and_counts_once()
    {
        _bus.Send(0xFEE00000, 0x51);
        Apic.Acknowledge();
        Assert.True(Apic.TryElideEoi());
        Apic.WriteMmio(Eoi, 0);
        _bus.Send(0xFEE00000, 0x52);
        Assert.Equal(0x52, Apic.Acknowledge());
        Apic.SettleEoi(isEnded: true);
        Assert.Equal(0x40000u, Apic.ReadMmio(Isr + 0x20));
    }

    [Fact]
    public void What_others_wait_for_or_a_wire_holds_needs_its_EOI()
    {
        Assert.False(Apic.TryElideEoi());
        _bus.Send(0xFEE00000, 0x51);
        _bus.Send(0xFEE00000, 0x61);
        Apic.Acknowledge();
        Assert.False(Apic.TryElideEoi());                           // 51h waits
        Apic.WriteMmio(Eoi, 0);
        Apic.Acknowledge();
        Apic.WriteMmio(Eoi, 0);
        Redirect(5, 0x8030, 0);
        _ioApic.SetIrq(5, true);
        Assert.Equal(0x30, Apic.Acknowledge());
        Assert.False(Apic.TryElideEoi());                           // level triggered
    }

    [Fact]
    public void An_IOAPIC_edge_is_sent_once()
    {
        Redirect(4, 0x30, 1);
        _ioApic.SetIrq(4, true);
        Assert.False(Apic.HasInterrupt);
        Assert.Equal(0x30, _apics[1].Acknowledge());
        _apics[1].WriteMmio(Eoi, 0);
        Assert.False(_apics[1].HasInterrupt);
        _ioApic.SetIrq(4, false);
        _ioApic.SetIrq(4, true);
        Assert.True(_apics[1].HasInterrupt);
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public void An_IOAPIC_level_is_sent_again_after_EOI_while_it_lasts(bool directed)
    {
        Redirect(10, 0x8030, 0);
        _ioApic.SetIrq(10, true);
        Assert.Equal(0x30, Apic.Acknowledge());
        Assert.Equal(0xC030u, IoApicRead(0x10 + 20));              // remote IRR
        _ioApic.SetIrq(10, false);
        _ioApic.SetIrq(10, true);
        Assert.False(Apic.HasInterrupt);
        End();
        Assert.Equal(0x30, Apic.Acknowledge());
        _ioApic.SetIrq(10, false);
        End();
        Assert.Equal(0x8030u, IoApicRead(0x10 + 20));
        Assert.False(Apic.HasInterrupt);

        void End()
        {
            if (directed) _ioApic.Write(0x40, 4, 0x30);
            Apic.WriteMmio(Eoi, 0);
        }
    }

    [Fact]
    public void A_masked_level_is_sent_when_unmasked_and_a_masked_edge_is_lost()
    {
        Redirect(5, 0x18030, 0);
        Redirect(6, 0x10031, 0);
        _ioApic.SetIrq(5, true);
        _ioApic.SetIrq(6, true);
        Redirect(6, 0x31, 0);
        Assert.False(Apic.HasInterrupt);
        Redirect(5, 0x8030, 0);
        Assert.Equal(0x30, Apic.Acknowledge());
    }

    [Theory]
    [InlineData(0, 0x00000000u)] [InlineData(1, 0x00170020u)] [InlineData(0x10, 0x00010000u)] [InlineData(0x3F, 0u)]
    [InlineData(0x40, 0u)]
    public void The_IOAPIC_starts_with_these_registers(int index, uint value) => Assert.Equal(value, IoApicRead(index));

    [Fact]
    public void The_8259_interrupts_through_LINT0()
    {
        foreach ((ulong port, byte value) in ((ulong, byte)[])[(0, 0x11), (1, 0x08), (1, 0x04), (1, 0x01)])
            _pic.Master.Write(port, 1, value);
        Apic.WriteMmio(Lint0, 0x10700);
        _pic.SetIrq(0, true);
        Assert.False(Apic.HasInterrupt);
        Apic.WriteMmio(Lint0, 0x700);
        Assert.True(Apic.HasInterrupt);
        Assert.False(_apics[1].HasInterrupt);
        Assert.Equal(8, Apic.Acknowledge());
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void After_power_on_the_8259_reaches_the_boot_processor_alone()
    {
        foreach (LocalApic apic in _apics) apic.Reset();
        foreach ((ulong port, byte value) in ((ulong, byte)[])[(0, 0x11), (1, 0x08), (1, 0x04), (1, 0x01)])
            _pic.Master.Write(port, 1, value);
        _pic.SetIrq(1, true);
        Assert.Equal([true, false, false], _apics.Select(a => a.HasInterrupt));
        Assert.Equal(9, Apic.Acknowledge());
    }

    [Fact]
    public void LINT1_brings_NMI_where_it_is_unmasked()
    {
        Apic.WriteMmio(Lint1, 0x400);
        _bus.SetNmi(true);
        _bus.SetNmi(false);
        Assert.Equal(["Nmi"], _cpus[0].Signals);
        Assert.Empty(_cpus[1].Signals);
    }

    [Theory]
    [InlineData(0x00000041u, 2, "2")]                              // physical
    [InlineData(0x00000041u, 0xFF, "012")]                         // physical broadcast
    [InlineData(0x00000841u, 0x06, "12")]                          // logical, flat
    [InlineData(0x00040041u, 0, "0")]                              // self
    [InlineData(0x00080041u, 0, "012")]                            // all including self
    [InlineData(0x000C0041u, 0, "12")]                             // all excluding self
    [InlineData(0x00000941u, 0x06, "1")]                           // lowest priority among a set
    public void An_ICR_write_reaches_its_destinations(uint command, byte destination, string reached)
    {
        for (int i = 0; i < 3; i++)
        {
            _apics[i].WriteMmio(Ldr, 1u << 24 + i);
            _apics[i].WriteMmio(Dfr, 0xFFFFFFFF);
        }
        Apic.WriteMmio(IcrHigh, (uint)destination << 24);
        Apic.WriteMmio(IcrLow, command);
        Assert.Equal(reached, string.Concat(Enumerable.Range(0, 3).Where(i => _apics[i].Acknowledge() == 0x41)));
    }

    [Theory]
    [InlineData(0x11, "0")] [InlineData(0x13, "01")] [InlineData(0x21, "2")] [InlineData(0x31, "")]
    [InlineData(0xFF, "012")]
    public void Cluster_destinations_name_a_cluster_and_a_set(byte destination, string reached)
    {
        foreach (LocalApic apic in _apics) apic.WriteMmio(Dfr, 0x0FFFFFFF);
        Apic.WriteMmio(Ldr, 0x11000000);
        _apics[1].WriteMmio(Ldr, 0x12000000);
        _apics[2].WriteMmio(Ldr, 0x21000000);
        _bus.Send(0xFEE00004 | (ulong)destination << 12, 0x41);
        Assert.Equal(reached, string.Concat(Enumerable.Range(0, 3).Where(i => _apics[i].HasInterrupt)));
    }

    [Fact]
    public void INIT_and_start_up_wake_the_others()
    {
        _apics[1].WriteMmio(Tpr, 0x20);
        Apic.WriteMmio(IcrLow, 0x000C4500);
        Apic.WriteMmio(IcrLow, 0x000C8500);                        // level de-assert does nothing
        Apic.WriteMmio(IcrLow, 0x000C4699);
        Apic.WriteMmio(IcrLow, 0x000C4400);
        Assert.Empty(_cpus[0].Signals);
        Assert.Equal(["Init", "StartUp 99", "Nmi"], _cpus[1].Signals);
        Assert.Equal(0u, _apics[1].ReadMmio(Tpr));
        Assert.Equal(0xFFu, _apics[1].ReadMmio(Svr));
    }

    [Theory]
    [InlineData(0xB, 1)] [InlineData(0x0, 2)] [InlineData(0x1, 4)] [InlineData(0x2, 8)] [InlineData(0x3, 16)]
    [InlineData(0x8, 32)]
    [InlineData(0x9, 64)] [InlineData(0xA, 128)]
    public void The_timer_counts_down_once_at_the_divided_rate(uint divide, long divisor)
    {
        Apic.WriteMmio(Divide, divide);
        Apic.WriteMmio(LvtTimer, 0x50);
        Apic.WriteMmio(InitialCount, 1000);
        _clock.Advance(400 * divisor);
        Assert.Equal(600u, Apic.ReadMmio(CurrentCount));
        _clock.Advance(600 * divisor - 1);
        Assert.False(Apic.HasInterrupt);
        _clock.Advance(1);
        Assert.Equal(0x50, Apic.Acknowledge());
        Assert.Equal(0u, Apic.ReadMmio(CurrentCount));
        Apic.WriteMmio(Eoi, 0);
        _clock.Advance(10_000 * divisor);
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void The_periodic_timer_repeats_until_its_count_is_cleared()
    {
        Apic.WriteMmio(Divide, 0xB);
        Apic.WriteMmio(LvtTimer, 0x20050);
        Apic.WriteMmio(InitialCount, 50_000);
        for (int i = 0; i < 5; i++)
        {
            _clock.Advance(50_000);
            Assert.Equal(0x50, Apic.Acknowledge());
            Apic.WriteMmio(Eoi, 0);
        }
        Apic.WriteMmio(InitialCount, 0);
        _clock.Advance(200_000);
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void The_deadline_timer_fires_at_its_TSC_value()
    {
        Apic.TscDeadline = 2000;                                   // ignored in another mode
        Assert.Equal(0UL, Apic.TscDeadline);
        Apic.WriteMmio(LvtTimer, 0x40050);
        Apic.TscDeadline = 2001;
        Assert.Equal(2001UL, Apic.TscDeadline);
        _clock.AdvanceTo(1000);
        Assert.False(Apic.HasInterrupt);
        _clock.AdvanceTo(1001);
        Assert.Equal(0x50, Apic.Acknowledge());
        Assert.Equal(0UL, Apic.TscDeadline);
        Apic.WriteMmio(Eoi, 0);
        Apic.TscDeadline = 1;                                      // past
        _clock.Advance(0);
        Assert.True(Apic.HasInterrupt);
    }

    [Fact]
    public void Software_disabling_masks_the_table_and_refuses_interrupts()
    {
        Apic.WriteMmio(LvtTimer, 0x50);
        Apic.WriteMmio(Svr, 0xFF);
        Assert.Equal(0x10050u, Apic.ReadMmio(LvtTimer));
        Apic.WriteMmio(LvtTimer, 0x50);
        Assert.Equal(0x10050u, Apic.ReadMmio(LvtTimer));
        _bus.Send(0xFEE00000, 0x41);
        Apic.WriteMmio(Svr, 0x1FF);
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void Errors_are_latched_by_writing_ESR_and_interrupt()
    {
        Apic.WriteMmio(LvtError, 0xFE);
        Apic.WriteMmio(IcrLow, 0x00040005);
        Assert.Equal(0u, Apic.ReadMmio(Esr));
        Assert.Equal(0xFE, Apic.Acknowledge());
        Apic.WriteMmio(Esr, 0);
        Assert.Equal(0x20u, Apic.ReadMmio(Esr));
        _bus.Send(0xFEE00000, 0x0F);
        Apic.WriteMmio(Esr, 0);
        Assert.Equal(0x40u, Apic.ReadMmio(Esr));
    }

    [Theory]
    [InlineData(0xFEE00900UL, 0xFEE00D00UL, true)]                 // xAPIC to x2APIC
    [InlineData(0xFEE00D00UL, 0xFEE00900UL, false)]                // and not back
    [InlineData(0xFEE00D00UL, 0xFEE00100UL, true)]
    [InlineData(0xFEE00100UL, 0xFEE00D00UL, false)]
    [InlineData(0xFEE00100UL, 0xFEE00900UL, true)]
    [InlineData(0xFEE00900UL, 0xFEE00500UL, false)]
    [InlineData(0xFEE00900UL, 0x100_FEE00900UL, false)]            // beyond the physical address width
    public void Mode_changes_follow_the_state_diagram(ulong from, ulong to, bool allowed)
    {
        if ((from & 0x800) == 0) Assert.True(Apic.WriteBaseMsr(from));
        else if ((from & 0x400) != 0) Assert.True(Apic.WriteBaseMsr(from));
        Assert.Equal(allowed, Apic.WriteBaseMsr(to));
        Assert.Equal(allowed ? to : from, Apic.BaseMsr);
    }

    [Fact]
    public void X2APIC_registers_are_MSRs_and_faults_guard_reserved_bits()
    {
        Assert.False(_apics[2].ReadMsr(0x802, out _));
        Assert.True(_apics[2].WriteBaseMsr(0xFEE00000 | BaseX2Apic));
        Assert.True(_apics[2].ReadMsr(0x802, out ulong id));
        Assert.Equal(2UL, id);
        Assert.True(_apics[2].ReadMsr(0x80D, out ulong ldr));
        Assert.Equal(4UL, ldr);
        Assert.False(_apics[2].WriteMsr(0x80D, 1));
        Assert.False(_apics[2].ReadMsr(0x80E, out _));
        Assert.False(_apics[2].ReadMsr(0x80B, out _));
        Assert.False(_apics[2].WriteMsr(0x80B, 1));
        Assert.False(_apics[2].WriteMsr(0x808, 0x100));
        Assert.False(_apics[2].WriteMsr(0x840, 0));
        Assert.True(_apics[2].WriteMsr(0x83F, 0x66));
        Assert.Equal(0x66, _apics[2].Acknowledge());
        Assert.True(_apics[2].WriteMsr(0x80B, 0));
        Assert.Equal(uint.MaxValue, _apics[2].ReadMmio(0x20));
    }

    [Theory]
    [InlineData(0x00000001_00000041UL, "1")] [InlineData(0xFFFFFFFF_00000041UL, "012")]
    [InlineData(0x00000005_00000841UL, "02")]
    [InlineData(0x00010005_00000841UL, "")]
    public void X2APIC_commands_carry_32_bit_destinations(ulong command, string reached)
    {
        foreach (LocalApic apic in _apics) Assert.True(apic.WriteBaseMsr(apic.BaseMsr | BaseX2Apic));
        Assert.True(Apic.WriteMsr(0x830, command));
        Assert.Equal(reached, string.Concat(Enumerable.Range(0, 3).Where(i => _apics[i].HasInterrupt)));
        Assert.True(Apic.ReadMsr(0x830, out ulong readBack));
        Assert.Equal(command, readBack);
    }

    /// <summary>Section 11.5.4: bit 18 of the timer's entry is reserved where CPUID shows no TSC-deadline
    /// mode.</summary>
    [Theory]
    [InlineData(true, 0x40031u)]
    [InlineData(false, 0x00031u)]
    public void The_deadline_mode_exists_with_its_feature_alone(bool hasDeadline, uint kept)
    {
        _cpus[0].HasTscDeadline = hasDeadline;
        Apic.WriteMmio(LvtTimer, 0x40031);
        Assert.Equal(kept, Apic.ReadMmio(LvtTimer));
        Assert.True(Apic.WriteBaseMsr(Apic.BaseMsr | BaseX2Apic));
        Assert.Equal(hasDeadline, Apic.WriteMsr(0x832, 0x40031));
    }

    /// <summary>Section 11.4.3: a disabled APIC's pins are INTR and NMI.</summary>
    [Fact]
    public void A_disabled_apic_passes_its_pins_on()
    {
        Apic.WriteMmio(Lint1, 0x10400);                                 // masked: while it is enabled nothing comes
        Apic.SetLint1(true);
        Apic.SetLint1(false);
        Assert.Empty(_cpus[0].Signals);
        Assert.True(Apic.WriteBaseMsr(Apic.BaseMsr & ~0x800ul));
        Apic.SetLint1(true);
        Apic.SetLint1(false);
        Assert.Equal(["Nmi"], _cpus[0].Signals);
        Apic.SetLint0(true);
        Assert.True(Apic.HasInterrupt);
        Apic.SetLint0(false);
        Assert.False(Apic.HasInterrupt);
        Apic.Accept(DeliveryMode.Fixed, 0x50, isLevel: false);
        Assert.False(Apic.HasInterrupt);
        Assert.Equal(uint.MaxValue, Apic.ReadMmio(Svr));
    }

    /// <summary>Table 11-5 and figure 11-27: EN and EXTD.</summary>
    [Theory]
    [InlineData(0x000ul, 0x800ul, true)]
    [InlineData(0x000ul, 0xC00ul, false)]
    [InlineData(0x000ul, 0x400ul, false)]
    [InlineData(0x800ul, 0x000ul, true)]
    [InlineData(0x800ul, 0xC00ul, true)]
    [InlineData(0x800ul, 0x400ul, false)]
    [InlineData(0xC00ul, 0x000ul, true)]
    [InlineData(0xC00ul, 0x800ul, false)]
    [InlineData(0xC00ul, 0x400ul, false)]
    [InlineData(0xC00ul, 0xC00ul, true)]
    public void Modes_change_as_the_manual_allows(ulong from, ulong to, bool legal)
    {
        const ulong modes = 0xC00;
        ulong rest = Apic.BaseMsr & ~modes;
        if (from != 0x800) Assert.True(Apic.WriteBaseMsr(rest | (from == 0 ? 0 : modes)));
        Assert.Equal(legal, Apic.WriteBaseMsr(rest | to));
        Assert.Equal(legal ? to : from, Apic.BaseMsr & modes);
    }
}
