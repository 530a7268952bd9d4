using System.Diagnostics;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>KVM's interface on the software CPU. Linux, Documentation/virt/kvm/x86.</summary>
public sealed unsafe class KvmInterfaceTests
{
    const uint WallClock = 0x4B564D00, SystemTime = 0x4B564D01, Eoi = 0x4B564D04, Tsc = 0x10;
    const ulong Page = 0x1C000;

    static SystemMachine Machine() => new M("max", ("kvm", true)).Long64();

    /// <summary>What a guest computes from the page.</summary>
    static ulong Time(SystemMachine m)
    {
        ulong delta = m.Cpu.ReadTsc() - m.Read(Page + 8, 8);
        var shift = (sbyte)m.Read(Page + 28, 1);
        delta = shift >= 0 ? delta << shift : delta >> -shift;
        return m.Read(Page + 16, 8) + (ulong)((UInt128)delta * m.Read(Page + 24, 4) >> 32);
    }

    [Theory]
    [InlineData(SystemTime)]
    [InlineData(0x12u)]
    public void The_clocks_page_gives_the_time_whatever_the_guest_does_to_its_counter(uint msr)
    {
        using SystemMachine m = Machine();
        Assert.True(m.Cpu.WriteMsr(msr, Page | 1));
        Assert.True(m.Cpu.ReadMsr(msr, out ulong value));
        Assert.Equal(Page | 1, value);
        uint version = (uint)m.Read(Page, 4);
        Assert.Equal((0u, 1u), (version & 1, (uint)m.Read(Page + 29, 1)));
        ulong before = Time(m);
        Assert.True(m.Cpu.WriteMsr(Tsc, 1UL << 50));
        Assert.Equal(version + 2, (uint)m.Read(Page, 4));
        ulong after = Time(m);
        Assert.InRange(after, before, before + 60_000_000_000);
    }

    [Fact]
    public void A_disabled_page_is_left_alone()
    {
        using SystemMachine m = Machine();
        Assert.True(m.Cpu.WriteMsr(SystemTime, Page));
        Assert.True(m.Cpu.WriteMsr(Tsc, 5));
        Assert.Equal(0ul, m.Read(Page, 8));
    }

    [Theory]
    [InlineData(1_000_000_000ul)]
    [InlineData(2_500_000_000ul)]
    [InlineData(999_999_999ul)]
    [InlineData(2_000_000_000ul)]
    [InlineData(4_294_967_295ul)]
    [InlineData(50_000_000ul)]
    public void Ticks_scale_to_nanoseconds(ulong hertz)
    {
        (uint multiplier, sbyte shift) = Cpu.KvmScale(hertz);
        ulong second = (ulong)((UInt128)(shift >= 0 ? hertz << shift : hertz >> -shift) * multiplier >> 32);
        Assert.InRange(second, 999_999_990ul, 1_000_000_001ul);
    }

    [Fact]
    public void The_wall_clock_is_that_of_the_clocks_zero()
    {
        using SystemMachine m = Machine();
        Assert.True(m.Cpu.WriteMsr(SystemTime, Page | 1));
        Assert.True(m.Cpu.WriteMsr(WallClock, Page + 0x100));
        Assert.NotEqual(0ul, m.Read(Page + 0x100, 4));
        Assert.Equal(0ul, m.Read(Page + 0x100, 4) & 1);
        DateTime zero = DateTime.UnixEpoch.AddSeconds(m.Read(Page + 0x104, 4))
            .AddTicks((long)m.Read(Page + 0x108, 4) / 100);
        DateTime now = zero.AddTicks((long)Time(m) / 100);
        Assert.InRange((DateTime.UtcNow - now).TotalSeconds, -60, 60);
    }

    [Fact]
    public void Without_it_the_registers_are_unknown_and_hypercalls_undefined()
    {
        using SystemMachine m = new M().Long64();
        foreach (uint msr in (uint[])[WallClock, SystemTime, Eoi, 0x11, 0x12, 0x4B564D02, 0x4B564D03])
        {
            Assert.False(m.Cpu.ReadMsr(msr, out _));
            Assert.False(m.Cpu.WriteMsr(msr, 0));
        }
        m.Run(0x0F, 0x01, 0xC1);
        Assert.Equal(6, m.HandlerVector);
        m.S->Rip = M.Code;
        m.Run(0x0F, 0x01, 0xD9);
        Assert.Equal(6, m.HandlerVector);
    }

    [Theory]
    [InlineData(0xC1, 77ul, 0, -1000L)]
    [InlineData(0xD9, 77ul, 0, -1000L)]
    [InlineData(0xD9, 1ul, 0, 0L)]
    [InlineData(0xC1, 5ul, 3, -1L)]
    public void Hypercalls_answer_as_kvm_does(byte form, ulong number, int ring, long result)
    {
        using SystemMachine m = Machine();
        if (ring == 3) m.Ring3();
        m.Cpu.Rax = number;
        m.Run(0x0F, 0x01, form);
        Assert.Equal((result, M.Code + 3), ((long)m.Cpu.Rax, m.S->Rip));
    }

    [Fact]
    public void Outside_64_bit_mode_hypercalls_have_32_bits()
    {
        using SystemMachine m = new M("max", ("kvm", true)).Protected32();
        m.Cpu.Rax = 1UL << 40 | 77;
        m.Run(0x0F, 0x01, 0xC1);
        Assert.Equal(unchecked((uint)-1000), m.Cpu.Rax);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_kick_ends_the_halt_of_another_cpu_though_its_interrupts_are_off(bool haltsFirst)
    {
        const ulong first = 0x10000, second = 0x20000, flag = 0x30000;
        using GuestMachine machine = new GuestMachine(2, "max", ("kvm", true)).Flat(64).Flat(64, index: 1);
        machine.Place(second, 64, a => { a.cli(); a.hlt(); a.mov(__dword_ptr[flag], 1); a.hlt(); });
        machine.Place(first, 64, a => { a.mov(eax, 5); a.mov(ecx, 1); a.vmmcall(); a.hlt(); });
        IVCpu other = machine.VCpus[1];
        ((SoftwareVCpu)other).Cpu.State->Rip = second;
        var thread = new Thread(() => other.Run());
        if (haltsFirst)
        {
            thread.Start();
            while (!other.IsHalted) Thread.Sleep(1);
        }
        machine.RunToHalt(first);
        if (!haltsFirst) thread.Start();
        for (int i = 0; i < 60_000 && machine.Memory.Read(flag, 4) == 0; i++) Thread.Sleep(1);
        Assert.Equal(1ul, machine.Memory.Read(flag, 4));
        Assert.Equal(0ul, machine.Cpu.Rax);
        while (!other.IsHalted) Thread.Sleep(1);                    // one kick, one halt
        other.Kick();
        thread.Join();
    }

    /// <summary>An interrupt that ends without EOI if the guest clears the flag.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_end_of_an_interrupt_is_read_from_the_guests_flag(bool clears)
    {
        using SystemMachine m = Machine();
        var apic = new ElidingApic();
        m.Cpu.Apic = apic;
        Assert.True(m.Cpu.WriteMsr(Eoi, Page | 1));
        m.S->RflagsSystem |= Rflags.If;
        m.Place(0x90, 0xF4);
        apic.Waits = true;
        m.Go(translated: false);
        Assert.Equal(0x30, m.HandlerVector);
        Assert.Equal(1ul, m.Read(Page, 4));
        Assert.Null(apic.Ended);
        if (clears) m.Write(Page, 0, 4);
        apic.Waits = true;                                          // something new: time to look
        m.Cpu.InterruptPending();
        m.S->Rip += 2;
        m.Place(0xE6, 0x80);
        m.Cpu.Run();
        Assert.Equal(clears, apic.Ended);
        Assert.Equal(0ul, m.Read(Page, 4));
    }

    sealed class ElidingApic : FakeApic, ILocalApic        // whose optional parts it has too
    {
        public bool Waits { get; set; }
        public bool? Ended { get; private set; }
        public override bool HasInterrupt => Waits;
        public bool HasWaiting => Waits;
        public bool TryElideEoi() => Ended == null;
        public void SettleEoi(bool isEnded) => Ended = isEnded;

        public override int Acknowledge()
        {
            Waits = false;
            return 0x30;
        }
    }
}
