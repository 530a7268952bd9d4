using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>VMRUN and #VMEXIT, and what they keep. AMD64 APM vol. 2, chapter 15.</summary>
public sealed unsafe class SvmTests
{
    [Theory, InlineData(false), InlineData(true)]
    public void A_guest_runs_until_an_intercept(bool translated)
    {
        using SvmMachine m = new(translated);
        m.Cpu.Rbx = 5;
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(rax, 0x123456789A);
            c.add(rbx, 2);
            c.mov(__qword_ptr[0x70000], rbx);
            c.hlt();
        }));
        Assert.Equal((7ul, 7ul, 0x123456789Aul, SvmMachine.VmcbAt),
            (m.Cpu.Rbx, m.Machine.Memory.Read(0x70000, 8), m[Vmcb.Rax], m.Cpu.Rax));
        ulong rip = m[Vmcb.Rip];
        Assert.Equal((rip + 1, 0xF4ul), (m[Vmcb.NextRip], m.Machine.Memory.Read(rip, 1)));
        Assert.False(m.Cpu.IsGuest);
    }

    /// <summary>Where it was left, it goes on.</summary>
    [Fact]
    public void Many_exits()
    {
        using SvmMachine m = new();
        m.Guest(c =>
        {
            Label again = c.CreateLabel();
            c.Label(ref again);
            c.inc(rbx);
            c.hlt();
            c.jmp(again);
        });
        for (ulong i = 1; i <= 100; i++)
        {
            Assert.Equal((ulong)SvmExit.Hlt, m.Run());
            Assert.Equal(i, m.Cpu.Rbx);
            m[Vmcb.Rip] = m[Vmcb.NextRip];
        }
    }

    [Theory, InlineData(16), InlineData(32)]
    public void Guests_of_fewer_bits(int bits)
    {
        using SvmMachine m = new();
        m.Nest();
        for (int i = 0; i < Seg.Count; i++) m.Segment(i, bits);
        (m[Vmcb.Cr0], m[Vmcb.Cr4], m[Vmcb.Efer]) = (bits == 16 ? 0x10u : 0x11u, 0, Efer.Svme);
        m[Vmcb.SegmentAt(Seg.Cs) + 8] = bits == 16 ? SvmMachine.GuestCode : 0;
        m[Vmcb.Rip] = bits == 16 ? 0 : SvmMachine.GuestCode;
        Assert.Equal(SvmExit.Hlt, m.Run(c =>
        {
            c.mov(bx, 0x1234);
            c.mov(__word_ptr[0x7000], bx);
            c.hlt();
        }, bits));
        Assert.Equal(0x1234ul, m.Machine.Memory.Read(0x7000, 2));
        Assert.Equal(bits == 16 ? 0x10u : 0x11u, m[Vmcb.Cr0]);
        Assert.True(m.Cpu.Is64Bit);
    }

    [Fact]
    public void The_host_finds_its_registers_again()
    {
        using SvmMachine m = new();
        CpuState* s = m.Machine.S;
        (s->GdtrBase, s->GdtrLimit, s->IdtrBase, s->IdtrLimit, m.Cpu.Rsp) = (0x1000, 0x7F, 0x2000, 0xFF, 0x35000);
        m.Cpu.SetCarry(true);
        CpuState before = *s;
        m[Vmcb.SegmentAt(Seg.Ds)] = 0x93 << 16 | 0x33;
        m[Vmcb.Rflags] = 2;
        m.Run(c =>
        {
            c.mov(rsp, 0x1111);
            c.hlt();
        });
        Assert.Equal((before.GdtrBase, before.GdtrLimit, before.IdtrBase, before.IdtrLimit, before.Cr0, before.Cr3,
            before.Cr4, before.Efer),
            (s->GdtrBase, s->GdtrLimit, s->IdtrBase, s->IdtrLimit, s->Cr0, s->Cr3, s->Cr4, s->Efer));
        Assert.Equal((before.Ds, before.Cs, before.Ss, 0x35000ul), (s->Ds, s->Cs, s->Ss, m.Cpu.Rsp));
        Assert.True(m.Cpu.Carry);
        Assert.Equal((0x1111ul, 0x33ul), (m[Vmcb.Rsp], m[Vmcb.SegmentAt(Seg.Ds)] & 0xFFFF));
    }

    /// <summary>Section 15.5.1.</summary>
    [Theory]
    [InlineData(Vmcb.Efer, 0xD01, 0)] [InlineData(Vmcb.Efer, 0x80000000_00001D01, 0)]
    [InlineData(Vmcb.Cr0, 0xA0000011, 0)] [InlineData(Vmcb.Cr0, 0x1_80000011, 0)] [InlineData(Vmcb.Cr0, 0x80000010, 0)]
    [InlineData(Vmcb.Cr3, 0xFFF0_0000_0010_0000, 0)] [InlineData(Vmcb.Cr4, 0x80000020, 0)] [InlineData(Vmcb.Cr4, 0, 0)]
    [InlineData(Vmcb.Dr6, 0x1_FFFF0FF0, 0)] [InlineData(Vmcb.Dr7, 0x1_00000400, 0)] [InlineData(Vmcb.Asid, 0, 0)]
    [InlineData(Vmcb.Intercepts + 16, 0, 0)] [InlineData(Vmcb.IoMap, 0xFFFF_FFFF_FFFF_F000, 0)]
    [InlineData(Vmcb.MsrMap, 0xFFFF_FFFF_FFFF_F000, 0)]
    [InlineData(Vmcb.EventInjection, 0x80000120, 0)] [InlineData(Vmcb.EventInjection, 0x80000302, 0)]
    [InlineData(Vmcb.Pat, 2, 1)] [InlineData(Vmcb.EventInjection, 0x80000320, 0)]
    [InlineData(Vmcb.NestedCr3, 0xFFF0_0000_0000_0000, 1)]
    public void What_cannot_be_is_no_guest(int at, ulong value, ulong nested)
    {
        using SvmMachine m = new();
        m[Vmcb.NestedControl] = nested;
        m[at] = value;
        Assert.Equal(SvmExit.Invalid, m.Run(c => c.hlt()));
        Assert.Equal(SvmMachine.VmcbAt, m.Cpu.Rax);
    }

    [Theory]
    [InlineData(0x40001, 13)] [InlineData(0xFFF0_0000_0000_0000, 13)]
    public void Rax_must_be_a_page(ulong rax, int vector)
    {
        using SvmMachine m = new();
        m.Cpu.Rax = rax;
        Assert.Equal(vector, FaultOfHost(m));
    }

    [Fact]
    public void Without_the_feature_or_SVME_its_instructions_are_undefined()
    {
        using SvmMachine m = new();
        m.Machine.S->Efer &= ~Efer.Svme;
        foreach (Action<Assembler> program in (Action<Assembler>[])
            [c => c.vmrun(), c => c.vmload(), c => c.vmsave(), c => c.stgi(), c => c.clgi(), c => c.skinit(),
            c => c.invlpga()])
        {
            m.Machine.Place(SvmMachine.HostCode, 64, program);
            Assert.Equal(Vector.InvalidOpcode, FaultOfHost(m));
        }
        using GuestMachine without = new();
        Assert.False(without.Cpu.WriteMsr(SvmMachine.HostSaveMsr, 0));
        Assert.Throws<GuestFault>(() => without.Cpu.SetEfer(Efer.Svme));
    }

    /// <summary>What CPUID does not show, a VMCB cannot ask for.</summary>
    [Fact]
    public void Without_npt_there_is_no_nested_paging()
    {
        using SvmMachine m = new(true, 1, ("npt", false), ("nrip-save", false));
        Assert.Equal(SvmExit.Hlt, m.Run(c => c.hlt()));
        Assert.Equal(0ul, m[Vmcb.NextRip]);
        m.Nest();
        Assert.Equal(SvmExit.Invalid, m.Run());
    }

    /// <summary>The vector that the host's program raises first.</summary>
    static int FaultOfHost(SvmMachine m)
    {
        m.Machine.S->Rip = SvmMachine.HostCode;
        return Assert.Throws<GuestFault>(m.Cpu.RunOne).Number;
    }

    [Fact]
    public void Vmload_and_vmsave_move_what_vmrun_leaves()
    {
        using SvmMachine m = new();
        CpuState* s = m.Machine.S;
        (s->Fs.Base, s->KernelGsBase, s->Star, s->LStar, s->SysenterCs) = (0x123000, 0x456000, 77, 0x8000, 9);
        s->Tr = new Segment { Selector = 0x40, Base = 0x9000, Limit = 0x67, Access = 0x8B };
        m.Machine.Place(SvmMachine.HostCode, 64, c =>
        {
            c.vmsave();
            c.hlt();
            c.vmload();
            c.hlt();
        });
        m.Machine.RunToHalt(SvmMachine.HostCode);
        Assert.Equal((0x123000ul, 0x456000ul, 77ul, 0x8000ul, 9ul), (m[Vmcb.Fs + 8], m[Vmcb.KernelGsBase],
            m[Vmcb.Star], m[Vmcb.LStar], m[Vmcb.SysenterCs]));
        Assert.Equal(0x67ul << 32 | 0x8B << 16 | 0x40, m[Vmcb.Tr]);
        (m[Vmcb.Fs + 8], m[Vmcb.LStar], m[Vmcb.Tr + 8]) = (0x8000_0000_0000_0000, 0x9000, 0xA000);
        m.Machine.RunToHalt(s->Rip);
        Assert.Equal((0ul, 0x9000ul, 0xA000ul, 0x8B), (s->Fs.Base, s->LStar, s->Tr.Base, (int)s->Tr.Access));
    }

    [Fact]
    public void Registers()
    {
        using SvmMachine m = new();
        Assert.False(m.Cpu.WriteMsr(SvmMachine.HostSaveMsr, 0x1001));
        Assert.False(m.Cpu.WriteMsr(SvmMachine.HostSaveMsr, 1ul << 60));
        Assert.False(m.Cpu.WriteMsr(0xC0010114, 0x10));            // in use
        m.Cpu.SetEfer(m.Machine.S->Efer & ~Efer.Svme);
        Assert.True(m.Cpu.WriteMsr(0xC0010114, 0x18));
        Assert.True(m.Cpu.WriteMsr(0xC0010114, 0));
        Assert.True(m.Cpu.ReadMsr(0xC0010114, out ulong locked));
        Assert.Equal(0x18ul, locked);
        Assert.Throws<GuestFault>(() => m.Cpu.SetEfer(m.Machine.S->Efer | Efer.Svme));
    }

    [Fact]
    public void Cpuid_shows_it_on_request_alone()
    {
        Assert.Equal((0u, 0u), Leaf("max"));
        Assert.Equal((0u, 0u), Leaf("EPYC"));
        Assert.Equal((1u, 0x14E9u), Leaf("max", ("svm", true)));
        Assert.Equal((1u, 0x14E9u), Leaf("EPYC", ("svm", true)));
        Assert.Equal((1u, 0x14E8u), Leaf("EPYC", ("npt", false), ("svm", true)));
        Assert.Equal((0u, 0u), Leaf("EPYC", ("npt", true)));
        Assert.Equal(["lbrv"], Resolve("max", ("svm", true), ("lbrv", true)).Missing);

        static (uint, uint) Leaf(string model, params (string, bool)[] features)
        {
            CpuidResult leaf = Resolve(model, features).Query(0x8000000A, 0, 0, 1, 0);
            return (leaf.Eax, leaf.Edx);
        }

        static Cpuid Resolve(string model, params (string Name, bool On)[] features) => CpuModels.Resolve(
            new CpuSetup(model, [.. features.Select(f => KeyValuePair.Create(f.Name, f.On))], 0, 1, 1, 1));
    }

    [Fact]
    public void The_guests_time_stamps_have_an_offset()
    {
        using SvmMachine m = new();
        m[Vmcb.TscOffset] = 1ul << 60;
        m.Run(c =>
        {
            c.rdtsc();
            c.hlt();
        });
        Assert.InRange(m.Cpu.Rdx, 1ul << 28, (1ul << 28) + (1ul << 27));
    }

    /// <summary>A state saved in the midst of a guest goes on in it.</summary>
    [Fact]
    public void A_guest_is_saved_with_its_host()
    {
        using SvmMachine m = new(), other = new();
        foreach (SvmMachine each in (SvmMachine[])[m, other])
        {
            each.Nest();
            each.Intercept(SvmExit.Cpuid);
            each.NestedPage(0x70000, 0x71000 | 7);
            each.Machine.Memory.Write(0x71000, 8, 99);
            each.Guest(c =>
            {
                c.mov(rbx, 5);
                c.mov(rcx, __qword_ptr[0x70000]);
                c.cpuid();
            });
        }
        m.Machine.S->Rip = SvmMachine.HostCode;
        for (int i = 0; i < 2; i++) m.Cpu.RunOne();
        Assert.True(m.Cpu.IsGuest);
        m.Machine.Ram.Span(SvmMachine.HostSave, 0x1000).CopyTo(other.Machine.Ram.Span(SvmMachine.HostSave, 0x1000));
        StateNode.Save(m.Cpu.Exchange).Load(other.Cpu.Exchange);
        Assert.True(other.Cpu.IsGuest);
        other.Machine.RunToHalt(other.Machine.S->Rip);
        Assert.Equal(((ulong)SvmExit.Cpuid, 5ul, 99ul), (other.ExitCode, other.Cpu.Rbx, other.Cpu.Rcx));
    }
}
