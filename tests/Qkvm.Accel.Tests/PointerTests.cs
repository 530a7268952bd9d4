using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Data in pointers (LAM), alignment checks, protection keys of supervisor pages.</summary>
public sealed unsafe class PointerTests
{
    const ulong Tag48 = 0x2A5B_0000_0000_0000, Tag57 = 0x2A00_0000_0000_0000;

    static SystemMachine Tagging(ulong cr3, ulong cr4 = 0)
    {
        SystemMachine m = new M().Long64();
        m.Cpu.SetCr4(m.S->Cr4 | cr4);
        m.Cpu.SetCr3(M.Tables | cr3);
        return m;
    }

    /// <summary>Every way to memory, over and over, so that translated code has slots.</summary>
    static void AllAccesses(Assembler a)
    {
        Label again = a.CreateLabel();
        a.mov(ecx, 200);
        a.Label(ref again);
        a.mov(rax, __qword_ptr[rbx]);
        a.add(rax, 1);
        a.mov(__qword_ptr[rbx], rax);
        a.inc(__dword_ptr[rbx + 16]);
        a.@lock.xadd(__qword_ptr[rbx + 24], rax);
        a.push(rdx);
        a.pop(__qword_ptr[rbx + 32]);
        a.movups(xmm0, __xmmword_ptr[rbx]);
        a.movaps(__xmmword_ptr[rbx + 64], xmm0);
        a.mov(r8, rcx);
        a.lea(rsi, __[rbx + 64]);
        a.lea(rdi, __[rbx + 96]);
        a.mov(ecx, 16);
        a.rep.movsb();
        a.mov(rcx, r8);
        a.bts(__dword_ptr[rbx + 48], ecx);
        if (HostFeatures.Current.Has("cx16")) a.cmpxchg16b(__xmmword_ptr[rbx + 128]);
        else a.cmpxchg8b(__qword_ptr[rbx + 128]);
        a.dec(ecx);
        a.jnz(again);
        a.@out(0x80, al);
    }

    [Theory]
    [InlineData(Cr3.LamU48, Tag48, false)]
    [InlineData(Cr3.LamU48, Tag48, true)]
    [InlineData(Cr3.LamU57, Tag57, false)]
    [InlineData(Cr3.LamU57, Tag57, true)]
    [InlineData(0ul, 0ul, true)]
    public void Pointers_with_data_reach_memory_by_every_access(ulong cr3, ulong tag, bool translated)
    {
        using SystemMachine m = Tagging(cr3);
        m.S->Cr4 |= Cr4.Osfxsr;
        (m.Cpu.Rbx, m.Rsp) = (tag | M.Data, tag | M.Stack0 - 0x100);
        m.Place(AllAccesses);
        m.Go(translated);
        Assert.Single(m.Ports.Writes);
        Assert.Equal((200ul, 200ul), (m.Read(M.Data, 8), m.Read(M.Data + 16, 4)));
        Assert.Equal(200ul, m.Read(M.Data + 96, 8));
        Assert.Equal(tag | M.Stack0 - 0x100, m.Rsp);
        Assert.Equal(201ul * 100, m.Read(M.Data + 24, 8));
    }

    [Theory]
    [InlineData(0ul, Tag48 | M.Data, 13)]                                           // switched off
    [InlineData(Cr3.LamU57, Tag48 | M.Data, 13)]                                    // bits below 57 are address
    [InlineData(Cr3.LamU48, Tag48 | 1UL << 47 | M.Data, 13)]                        // bit 63 differs from 47
    [InlineData(Cr3.LamU48, Tag48 | 1UL << 63 | M.Data, 13)]                        // a supervisor's pointer
    [InlineData(Cr3.LamU48, Tag48 | 0x40000000, 14)]
    public void Other_pointers_fault_and_page_faults_report_no_data(ulong cr3, ulong pointer, int vector)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = Tagging(cr3);
            m.Cpu.Rbx = pointer;
            m.Place(a => a.mov(rax, __qword_ptr[rbx]));
            m.Go(translated);
            Assert.Equal((vector, M.Code), (m.HandlerVector, m.Top(1, 8)));
            if (vector == 14) Assert.Equal(0x40000000ul, m.S->Cr2);
        }
    }

    [Fact]
    public void Supervisor_pointers_have_a_switch_of_their_own()
    {
        // the last entry of the top table maps the same
        const ulong high = 0xFFFF_FF80_0000_0000;
        using SystemMachine m = Tagging(0, Cr4.LamSup);
        m.Cpu.Rbx = 0xAAAA_FF80_0000_0000 | M.Data;
        m.Write(M.Data, 77, 8);
        m.Run(a => a.mov(rax, __qword_ptr[rbx]));
        Assert.Equal(77ul, m.Cpu.Rax);
        m.S->Rip = M.Code;
        m.Cpu.Rbx = Tag48 | M.Data;
        m.Step();
        Assert.Equal(13, m.HandlerVector);
        Assert.Equal(0ul, high & M.Data);
    }

    [Fact]
    public void Jumps_and_bases_take_no_data()
    {
        using SystemMachine m = Tagging(Cr3.LamU48);
        m.Cpu.Rax = Tag48 | M.Code;
        m.Run(a => a.jmp(rax));
        Assert.Equal(13, m.HandlerVector);
        Assert.False(m.Cpu.WriteMsr(0xC0000100, Tag48));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_a_tagged_pointer_has_reached_is_forgotten_with_its_page(bool translated)
    {
        using SystemMachine m = Tagging(Cr3.LamU48);
        (m.Cpu.Rbx, m.Cpu.Rdi) = (Tag48 | M.Data, M.Tables + 0x3000 + (M.Data >> 12) * 8);
        m.Place(a =>
        {
            a.mov(rax, __qword_ptr[rbx]);
            a.mov(__qword_ptr[rdi], 0);
            a.invlpg(__[M.Data]);
            a.mov(rax, __qword_ptr[rbx]);
        });
        m.Go(translated);
        Assert.Equal((14, M.Data), (m.HandlerVector, m.S->Cr2));
    }

    [Fact]
    public void The_switches_exist_with_the_feature_alone()
    {
        using SystemMachine m = new M("max", ("lam", false)).Long64();
        Assert.Throws<GuestFault>(() => m.Cpu.SetCr3(M.Tables | Cr3.LamU48));
        Assert.Throws<GuestFault>(() => m.Cpu.SetCr4(m.S->Cr4 | Cr4.LamSup));
    }

    // Alignment, Intel SDM vol. 3, section 6.15, interrupt 17

    public static TheoryData<byte[], bool> Misaligned() => new()
    {
        { [0x66, 0x8B, 0x43, 0x01], true }, { [0x8B, 0x43, 0x02], true }, { [0x89, 0x43, 0x01], true },
            { [0x8B, 0x43, 0x04], false }, { [0x8A, 0x43, 0x01], false },
        { [0x01, 0x43, 0x03], true }, { [0xF0, 0x01, 0x43, 0x02], true }, { [0xF0, 0x01, 0x43, 0x04], false },
            { [0xDD, 0x43, 0x04], true }, { [0xDD, 0x43, 0x08], false },
        { [0xD9, 0x43, 0x02], true }, { [0xDB, 0x6B, 0x04], true }, { [0x0F, 0x10, 0x43, 0x01], false },
            { [0xF3, 0x0F, 0x10, 0x43, 0x02], true },
        { [0xA5], true }, { [0xF3, 0xA5], true }, { [0xFF, 0x73, 0x02], true }, { [0x0F, 0xC1, 0x43, 0x02], true },
            { [0x0F, 0xB1, 0x43, 0x01], true },
    };

    [Theory, MemberData(nameof(Misaligned))]
    public void Programs_that_ask_for_it_must_align(byte[] code, bool faults)
    {
        foreach (bool translated in (bool[])[false, true])
            foreach (bool is64 in (bool[])[false, true])
            {
                using SystemMachine m = is64 ? new M().Long64().Ring3() : new M().Protected32().Ring3();
                (m.Cpu.Rbx, m.Cpu.Rsi, m.Cpu.Rdi, m.Cpu.Rcx) = (M.Data, M.Data + 2, M.Data + 64, 4);
                m.S->Cr0 |= Cr0.Am;
                m.S->Cr4 |= Cr4.Osfxsr;
                m.S->RflagsSystem |= Rflags.Ac;
                m.Place([.. code, 0xCD, 0x80]);
                m.Go(translated);
                int size = is64 ? 8 : 4;
                if (faults) Assert.Equal((17, 0ul, M.Code), (m.HandlerVector, m.Top(0, size), m.Top(1, size)));
                else Assert.Equal(0x80, m.HandlerVector);
            }
    }

    [Theory]
    [InlineData(false, true, true)]
    [InlineData(true, false, true)]
    [InlineData(true, true, false)]
    public void Without_all_three_conditions_nothing_is_checked(bool am, bool ac, bool user)
    {
        using SystemMachine m = new M().Long64();
        if (user) m.Ring3();
        m.Cpu.Rbx = M.Data + 1;
        if (am) m.S->Cr0 |= Cr0.Am;
        if (ac) m.S->RflagsSystem |= Rflags.Ac;
        m.Place(a => { a.mov(eax, __dword_ptr[rbx]); a.@int(0x80); });
        m.Go(translated: true);
        Assert.Equal(0x80, m.HandlerVector);
    }

    [Fact]
    public void A_page_fault_goes_before_an_alignment_check()
    {
        using SystemMachine m = new M().Long64().Ring3();
        m.S->Cr0 |= Cr0.Am;
        m.S->RflagsSystem |= Rflags.Ac;
        m.SetPage(M.Data, 0);
        m.Cpu.Rbx = M.Data + 1;
        m.Place(a => a.mov(eax, __dword_ptr[rbx]));
        m.Go(translated: true);
        Assert.Equal(14, m.HandlerVector);
    }

    // Protection keys of supervisor pages, Intel SDM vol. 3, section 4.6.2

    [Theory]
    [InlineData(0u, false, -1)]
    [InlineData(4u, false, 0x21)]                                                   // AD of key 1
    [InlineData(8u, false, -1)]
    [InlineData(8u, true, 0x23)]                                                    // WD of key 1
    [InlineData(3u, true, -1)]                                                      // of key 0
    public void Supervisor_pages_have_keys(uint pkrs, bool write, int error)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = new M().Long64();
            for (uint i = 0; i < 512; i++)
                m.Write(M.Tables + 0x3000 + i * 8, i * 0x1000 | 3 | (i == M.Data >> 12 ? 1UL << 59 : 2UL << 59), 8);
            m.Cpu.SetCr4(m.S->Cr4 | Cr4.Pks);
            Assert.True(m.Cpu.WriteMsr(0x6E1, pkrs));
            m.Place(a =>
                { if (write) a.mov(__dword_ptr[M.Data], eax); else a.mov(eax, __dword_ptr[M.Data]); a.@out(0x80, al);
                });
            m.Go(translated);
            if (error < 0) Assert.Equal(M.Code, m.S->Rip & ~0xFFul);
            else Assert.Equal((14, (ulong)error), (m.HandlerVector, m.Top(0, 8)));
        }
    }

    [Fact]
    public void The_register_of_supervisor_keys_has_32_bits()
    {
        using SystemMachine m = new M();
        Assert.False(m.Cpu.WriteMsr(0x6E1, 1UL << 32));
        Assert.True(m.Cpu.WriteMsr(0x6E1, 0x55555554));
        Assert.True(m.Cpu.ReadMsr(0x6E1, out ulong value));
        Assert.Equal(0x55555554ul, value);
    }
}
