using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Who gets interrupts: host, guest, nobody. AMD64 APM vol. 2, sections 15.13, 15.17, 15.20 and
/// 15.21.</summary>
public sealed unsafe class SvmInterruptTests
{
    const ulong Masking = 1 << 24, Requested = 1 << 8, Vector42 = 0x42UL << 32;
    const int PriorityShift = 16;

    static SvmMachine Make(bool translated = true)
    {
        SvmMachine m = new(translated);
        for (int vector = 0; vector < 256; vector++)
        {
            int number = vector;
            m.Gate(vector, 0x22000 + (ulong)vector * 32);
            m.Machine.Place(0x22000 + (ulong)vector * 32, 64, c =>
            {
                c.mov(r15d, 0x100 + number);
                c.mov(r14, __qword_ptr[rsp]);
                c.hlt();
            });
        }
        return m;
    }

    /// <summary>A loop that ends by an interrupt alone.</summary>
    static void Spin(Assembler c)
    {
        Label again = c.CreateLabel();
        c.Label(ref again);
        c.inc(rdx);
        c.jmp(again);
    }

    [Theory]
    [InlineData(SvmEvent.Interrupt, 0x33, null)] [InlineData(SvmEvent.Nmi, 2, null)]
    [InlineData(SvmEvent.Exception, 13, 0x5678u)] [InlineData(SvmEvent.Exception, 6, null)]
    public void Events_are_injected(int type, int vector, uint? error)
    {
        using SvmMachine m = Make();
        m[Vmcb.EventInjection] = new SvmEvent(vector, type, error).Value;
        Assert.Equal(SvmExit.Hlt, m.Run(c => c.ud2()));
        Assert.Equal((0x100ul + (ulong)vector, error ?? SvmMachine.GuestCode, 0ul),
            (m.Cpu.State->Gpr[15], m.Cpu.State->Gpr[14], m[Vmcb.EventInjection] & 0x80000000));
    }

    /// <summary>Those of INT n return behind it.</summary>
    [Fact]
    public void Software_interrupts_are_injected_with_their_return()
    {
        using SvmMachine m = Make();
        m[Vmcb.EventInjection] = new SvmEvent(0x80, SvmEvent.Software, null).Value;
        m[Vmcb.NextRip] = SvmMachine.GuestCode + 2;
        Assert.Equal(SvmExit.Hlt, m.Run(c => c.@int(0x80)));
        Assert.Equal((0x180ul, SvmMachine.GuestCode + 2), (m.Cpu.State->Gpr[15], m.Cpu.State->Gpr[14]));
    }

    [Theory]
    [InlineData(SvmEvent.Interrupt, 0x33)] [InlineData(SvmEvent.Software, 0x34)] [InlineData(SvmEvent.Exception, 6)]
    [InlineData(SvmEvent.Exception, 3)]
    public void What_was_being_delivered_is_told(int type, int vector)
    {
        using SvmMachine m = Make();
        m.Nest();
        m.NestedPage(SvmMachine.Idt, 0);
        m[Vmcb.EventInjection] = new SvmEvent(vector, type, null).Value;
        m[Vmcb.NextRip] = SvmMachine.GuestCode + 1;
        Assert.Equal(SvmExit.NestedPageFault, m.Run(c => c.hlt()));
        Assert.Equal(SvmMachine.GuestCode, m[Vmcb.Rip]);
        Assert.Equal(new SvmEvent(vector, type, null).Value, m[Vmcb.ExitIntInfo]);
        Assert.Equal(SvmMachine.Idt + (ulong)vector * 16, m.Info2);
    }

    [Fact]
    public void A_software_interrupt_under_way_is_told()
    {
        using SvmMachine m = Make();
        m.Nest();
        m.NestedPage(SvmMachine.Idt, 0);
        Assert.Equal(SvmExit.NestedPageFault, m.Run(c => c.@int(0x35)));
        Assert.Equal((new SvmEvent(0x35, SvmEvent.Software, null).Value, SvmMachine.GuestCode),
            (m[Vmcb.ExitIntInfo], m[Vmcb.Rip]));
    }

    /// <summary>Whatever the guest's flag says, the host's counts.</summary>
    [Theory, InlineData(false, false), InlineData(true, false), InlineData(false, true), InlineData(true, true)]
    public void A_physical_interrupt_ends_the_guest(bool translated, bool guestFlag)
    {
        using SvmMachine m = Make(translated);
        var line = new InterruptLine();
        m.VCpu.Apic = line;
        m.Intercept(SvmExit.Interrupt);
        m[Vmcb.VirtualInterrupt] = Masking;
        m[Vmcb.Rflags] = guestFlag ? Rflags.If | 2 : 2;
        m.Machine.S->RflagsSystem |= Rflags.If;
        line.Raise();
        m.Guest(Spin);
        m.Cpu.HoldInterrupts(true);
        Assert.Equal(SvmExit.Interrupt, m.Run());
        Assert.True(line.HasInterrupt);                            // and waits for STGI
    }

    [Fact]
    public void Without_the_intercept_the_guest_takes_it()
    {
        using SvmMachine m = Make();
        var line = new InterruptLine();
        m.VCpu.Apic = line;
        m[Vmcb.Rflags] = Rflags.If | 2;
        line.Raise();
        m.Guest(Spin);
        Assert.Equal(SvmExit.Hlt, m.Run());
        Assert.Equal((0x140ul, false), (m.Cpu.State->Gpr[15], line.HasInterrupt));
    }

    [Theory, InlineData(false), InlineData(true)]
    public void A_virtual_interrupt_is_taken_when_the_flag_permits(bool translated)
    {
        using SvmMachine m = Make(translated);
        m[Vmcb.VirtualInterrupt] = Masking | Requested | Vector42 | 5 << PriorityShift | 4;
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(ebx, 1);
            c.sti();
            c.mov(ebx, 2);                                         // the shadow
            c.mov(ebx, 3);
            c.mov(ebx, 4);
            c.hlt();
        }));
        Assert.Equal((2ul, 0x142ul, 0ul), (m.Cpu.Rbx, m.Cpu.State->Gpr[15], m[Vmcb.VirtualInterrupt] & Requested));
    }

    [Fact]
    public void Its_priority_must_be_above_the_virtual_one()
    {
        using SvmMachine m = Make();
        m[Vmcb.VirtualInterrupt] = Masking | Requested | Vector42 | 5 << PriorityShift | 5;
        m[Vmcb.Rflags] = Rflags.If | 2;
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(rbx, cr8);
            c.nop();
            c.mov(ecx, 3);
            c.mov(cr8, rcx);
            c.mov(ebx, 99);
            c.hlt();
        }));
        Assert.Equal((5ul, 0x142ul, 3ul),
            (m.Cpu.Rbx, m.Cpu.State->Gpr[15], m[Vmcb.VirtualInterrupt] & 0xFF));
    }

    /// <summary>How a host waits for the guest's flag.</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void The_window_is_told(bool translated)
    {
        using SvmMachine m = Make(translated);
        m.Intercept(SvmExit.VirtualInterrupt);
        m[Vmcb.VirtualInterrupt] = Masking | Requested | 0xF << PriorityShift;
        Assert.Equal(SvmExit.VirtualInterrupt, m.Run(c =>
        {
            c.mov(ebx, 1);
            c.sti();
            c.mov(ebx, 2);
            c.mov(ebx, 3);
            c.hlt();
        }));
        Assert.Equal((2ul, Requested, 0ul),
            (m.Cpu.Rbx, m[Vmcb.VirtualInterrupt] & Requested, m.Cpu.State->Gpr[15]));
    }

    [Fact]
    public void A_shadow_goes_in_and_out()
    {
        using SvmMachine m = Make(translated: false);              // whose STI and what follows are one there
        m[Vmcb.InterruptShadow] = 1;
        m[Vmcb.VirtualInterrupt] = Masking | Requested | Vector42 | 0xF << PriorityShift;
        m[Vmcb.Rflags] = Rflags.If | 2;
        m.Run(c =>
        {
            c.mov(ebx, 1);
            c.mov(ebx, 2);
        });
        Assert.Equal((1ul, 0x142ul, 0ul), (m.Cpu.Rbx, m.Cpu.State->Gpr[15], m[Vmcb.InterruptShadow] & 1));
        m[Vmcb.Rip] = SvmMachine.GuestCode;
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.sti();
            c.hlt();
        }));
        Assert.Equal((SvmMachine.GuestCode + 1, 1ul), (m[Vmcb.Rip], m[Vmcb.InterruptShadow] & 1));
    }

    [Fact]
    public void An_nmi_ends_the_guest_and_comes_after_stgi()
    {
        using SvmMachine m = Make();
        m.Intercept(SvmExit.Nmi);
        (m.Machine.S->IdtrBase, m.Machine.S->IdtrLimit) = (SvmMachine.Idt, 0xFFF);
        (m.Machine.S->GdtrBase, m.Machine.S->GdtrLimit) = (SvmMachine.Gdt, 0xFF);
        m.Cpu.HoldInterrupts(true);
        m.Cpu.Signal(CpuSignal.Nmi, 0);
        m.Guest(Spin);
        m.Machine.Place(SvmMachine.HostCode, 64, c =>
        {
            c.vmrun();
            c.mov(rbx, __qword_ptr[SvmMachine.VmcbAt + Vmcb.ExitCode]);
            c.stgi();
            c.nop();
            c.nop();
            c.ud2();
        });
        m.Cpu.Rsp = 0x38000;
        m.Machine.RunToHalt(SvmMachine.HostCode);
        Assert.Equal(((ulong)SvmExit.Nmi, 0x102ul), (m.Cpu.Rbx, m.Cpu.State->Gpr[15]));
    }

    [Fact]
    public void Init_ends_the_guest()
    {
        using SvmMachine m = Make();
        m.Intercept(SvmExit.Init);
        m.Cpu.HoldInterrupts(true);
        m.Cpu.Signal(CpuSignal.Init, 0);
        m.Guest(Spin);
        Assert.Equal(SvmExit.Init, m.Run());
    }

    /// <summary>GIF clear holds back all, whatever IF says.</summary>
    [Fact]
    public void Nothing_interrupts_between_clgi_and_stgi()
    {
        using SvmMachine m = Make();
        var line = new InterruptLine();
        m.VCpu.Apic = line;
        (m.Machine.S->IdtrBase, m.Machine.S->IdtrLimit) = (SvmMachine.Idt, 0xFFF);
        (m.Machine.S->GdtrBase, m.Machine.S->GdtrLimit) = (SvmMachine.Gdt, 0xFF);
        m.Machine.Place(SvmMachine.HostCode, 64, c =>
        {
            Label wait = c.CreateLabel();
            c.clgi();
            c.sti();
            c.mov(ecx, 1000);
            c.Label(ref wait);
            c.dec(ecx);
            c.jne(wait);
            c.mov(ebx, 7);
            c.stgi();
            c.nop();
            c.ud2();
        });
        m.Cpu.Rsp = 0x38000;
        line.Raise();
        m.Machine.RunToHalt(SvmMachine.HostCode);
        Assert.Equal((7ul, 0x140ul), (m.Cpu.Rbx, m.Cpu.State->Gpr[15]));
    }

    /// <summary>A guest's breakpoints are in effect while it runs, and its host's while that does.</summary>
    [Fact]
    public void Breakpoints_change_with_the_world()
    {
        using SvmMachine m = Make();
        m.Machine.S->Dr[0] = 0x70000;
        (m[Vmcb.Dr7], m.Machine.S->Dr[7]) = (0xD0402, 0x400);      // reads and writes of four bytes
        m.Intercept(SvmExit.Exception + Vector.Debug);
        Assert.Equal(SvmExit.Exception + 1, m.Run(c =>
        {
            c.mov(__dword_ptr[0x70000], eax);
            c.hlt();
        }));
        Assert.Equal((1ul, 0x400ul), (m[Vmcb.Dr6] & 15, m.Machine.S->Dr[7]));
        m[Vmcb.Dr7] = 0x400;
        m[Vmcb.Rip] = SvmMachine.GuestCode;
        Assert.Equal(SvmExit.Hlt, m.Run());
    }
}
