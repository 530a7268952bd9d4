using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Control registers and modes, flags and privilege, ports. Intel SDM vol. 3, chapters 2, 4 and 9; vol. 1,
/// chapter 19.</summary>
public unsafe class SystemControlTests
{
    const ulong If = Rflags.If, Iopl = Rflags.Iopl;

    // Modes

    [Fact]
    public void From_real_to_protected_to_long_mode_and_back()
    {
        using SystemMachine m = new M().Real();
        m.MapIdentity();
        m.SetDescriptor(M.Code16, M.Descriptor(0x10000, 0xFFFF, 0x9A, 0));

        m.Cpu.Rax = Cr0.Pe | Cr0.Et;
        m.Run(a => a.mov(cr0, eax));
        Assert.True(m.Cpu.IsProtected);
        m.S->Rip = 0x10;
        m.Run(0x66, 0xEA, 0x00, 0x00, 0x01, 0x00, 0x08, 0x00);                      // jmp 08:10000
        Assert.Equal((M.Code0, M.Code), (m.S->Cs.Selector, m.S->Rip));

        m.Cpu.Rax = Cr4.Pae;
        m.Run(a => a.mov(cr4, eax));
        m.Cpu.Rax = M.Tables;
        m.Run(a => a.mov(cr3, eax));
        (m.Cpu.Rcx, m.Cpu.Rax, m.Cpu.Rdx) = (0xC0000080, Efer.Lme, 0);
        m.Run(a => a.wrmsr());
        m.Cpu.Rax = Cr0.Pe | Cr0.Pg;
        m.Run(a => a.mov(cr0, eax));
        Assert.Equal((true, false), (m.Cpu.IsLongMode, m.Cpu.Is64Bit));
        m.Run(0xEA, 0x00, 0x02, 0x01, 0x00, (byte)M.Code64, 0x00);                        // jmp 18:10200
        Assert.True(m.Cpu.Is64Bit);

        m.Write(M.Data, M.Code + 0x300 | (ulong)M.Code0 << 32, 8);
        m.Cpu.Rbx = M.Data;
        m.Run(0xFF, 0x2B);                                                          // jmp far [rbx]
        m.Cpu.Rax = Cr0.Pe;
        m.Run(a => a.mov(cr0, eax));
        Assert.Equal((false, true), (m.Cpu.IsLongMode, m.Cpu.IsProtected));
        m.Run(0xEA, 0x00, 0x04, 0x00, 0x00, (byte)M.Code16, 0x00);
        m.Cpu.Rax = 0;
        m.Run(a => a.mov(cr0, eax));
        m.Run(0xEA, 0x00, 0x05, 0x00, 0x10);
        Assert.Equal((false, 0x1000, 0x500ul), (m.Cpu.IsProtected, m.S->Cs.Selector, m.S->Rip));
    }

    public static TheoryData<ulong, bool> Cr0Values() => new()
    {
        { Cr0.Pe | Cr0.Pg | Cr0.Wp, true }, { Cr0.Pg, false }, { Cr0.Pe | Cr0.Nw, false },
            { Cr0.Pe | Cr0.Nw | Cr0.Cd, false },
        { 1UL << 32 | Cr0.Pe | Cr0.Pg, false }, { Cr0.Pe, false }, { Cr0.Pe | Cr0.Pg | 1 << 10, true },
    };

    /// <summary>In 64-bit mode paging stays on.</summary>
    [Theory, MemberData(nameof(Cr0Values))]
    public void Cr0_takes_consistent_values_only(ulong value, bool valid)
    {
        using SystemMachine m = new M().Long64();
        ulong before = m.S->Cr0;
        m.Cpu.Rax = value;
        m.Run(a => a.mov(cr0, rax));
        if (valid) Assert.Equal((value & ~(1UL << 10) | Cr0.Et, M.Code + 3), (m.S->Cr0, m.S->Rip));
        else Assert.Equal((before, 13, 0ul), (m.S->Cr0, m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Long_mode_needs_pae_before_paging()
    {
        using SystemMachine m = new M().Protected32();
        m.S->Efer = Efer.Lme;
        m.Cpu.Rax = Cr0.Pe | Cr0.Pg;
        m.Run(a => a.mov(cr0, eax));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void Pae_paging_checks_its_four_pointers()
    {
        using SystemMachine m = new M().Protected32();
        m.S->Cr4 = Cr4.Pae;
        m.Write(0x30000, 0x1E7, 8);
        m.S->Cr3 = 0x30000;
        m.Cpu.Rax = Cr0.Pe | Cr0.Pg;
        m.Run(a => a.mov(cr0, eax));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
        m.Write(0x30000, 0x1E6, 8);                                                 // not present: no matter
        m.S->Rip = M.Code;
        m.Step();
        Assert.NotEqual(0ul, m.S->Cr0 & Cr0.Pg);
    }

    [Theory]
    [InlineData(Cr4.Pae | Cr4.Pge, true)]
    [InlineData(Cr4.Pge, false)]                                                    // PAE stays on in long mode
    [InlineData(Cr4.Pae | Cr4.La57, false)]
    [InlineData(Cr4.Pae | 1UL << 15, false)]
    [InlineData(Cr4.Pae | 1UL << 32, false)]
    [InlineData(Cr4.Pae | Cr4.Vmxe, false)]
    [InlineData(Cr4.Pae | Cr4.Pcide, true)]
    public void Cr4_takes_what_the_processor_has_and_the_mode_permits(ulong value, bool valid)
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rax = value;
        m.Run(a => a.mov(cr4, rax));
        if (valid) Assert.Equal((value, M.Code + 3), (m.S->Cr4, m.S->Rip));
        else Assert.Equal((Cr4.Pae, 13, 0ul), (m.S->Cr4, m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Pcids_need_a_zero_in_cr3_and_hold_paging()
    {
        using SystemMachine m = new M().Long64();
        m.S->Cr3 |= 1;
        m.Cpu.ModeChanged();
        m.Cpu.Rax = Cr4.Pae | Cr4.Pcide;
        m.Run(a => a.mov(cr4, rax));
        Assert.Equal(13, m.HandlerVector);
        m.S->Cr4 |= Cr4.Pcide;
        m.Cpu.Rax = 1UL << 63 | M.Tables | 5;
        m.S->Rip = M.Code;
        m.Run(a => a.mov(cr3, rax));
        Assert.Equal(M.Tables | 5, m.S->Cr3);
    }

    [Fact]
    public void Cr3_has_reserved_bits_above_the_physical_address()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rax = 1UL << 52 | M.Tables;
        m.Run(a => a.mov(cr3, rax));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Efer_keeps_lme_while_paging_and_lma_always()
    {
        using SystemMachine m = new M().Long64();
        Assert.Throws<GuestFault>(() => m.Cpu.SetEfer(Efer.Lma | Efer.Sce));
        m.Cpu.SetEfer(Efer.Lme | Efer.Sce);
        Assert.Equal(Efer.Lme | Efer.Lma | Efer.Sce, m.S->Efer);
        Assert.Throws<GuestFault>(() => m.Cpu.SetEfer(Efer.Lme | 1UL << 20));
    }

    [Fact]
    public void A_new_cr3_drops_translations_but_global_ones()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.SetCr4(m.S->Cr4 | Cr4.Pge);
        m.SetPage(0x20000, 0x20000 | 0x103);
        Assert.Equal(0, m.Cpu.ReadLinear<byte>(0x20000) + m.Cpu.ReadLinear<byte>(0x21000));
        m.Write(M.Tables + 0x3000 + 0x20 * 8, 0, 8);
        m.Write(M.Tables + 0x3000 + 0x21 * 8, 0, 8);
        m.Cpu.SetCr3(M.Tables);
        Assert.Equal(0, m.Cpu.ReadLinear<byte>(0x20000));
        Assert.Equal(14, Assert.Throws<GuestFault>(() => m.Cpu.ReadLinear<byte>(0x21000)).Number);
        m.Cpu.SetCr4(Cr4.Pae);
        Assert.Equal(14, Assert.Throws<GuestFault>(() => m.Cpu.ReadLinear<byte>(0x20000)).Number);
    }

    [Fact]
    public void Invlpg_drops_one_page()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.ReadLinear<byte>(0x20000);
        m.Write(M.Tables + 0x3000 + 0x20 * 8, 0, 8);
        m.Cpu.Rbx = 0x20123;
        m.Run(a => a.invlpg(__[rbx]));
        Assert.Equal(14, Assert.Throws<GuestFault>(() => m.Cpu.ReadLinear<byte>(0x20000)).Number);
    }

    [Theory]
    [InlineData(4ul, 0ul, 0ul, 13)]
    [InlineData(0ul, 1ul, 0ul, 13)]                                                 // PCID without CR4.PCIDE
    [InlineData(0ul, 0ul, 0x0100_0000_0000_0000ul, 13)]
    [InlineData(0ul, 0x1000ul, 0ul, 13)]
    [InlineData(2ul, 0ul, 0ul, -1)]
    [InlineData(3ul, 0ul, 0ul, -1)]
    public void Invpcid_checks_type_and_descriptor(ulong type, ulong pcid, ulong linear, int vector)
    {
        using SystemMachine m = new M().Long64();
        m.Write(M.Data, pcid, 8);
        m.Write(M.Data + 8, linear, 8);
        (m.Cpu.Rax, m.Cpu.Rbx) = (type, M.Data);
        m.Run(a => a.invpcid(rax, __[rbx]));
        if (vector < 0) Assert.Equal(M.Code + 5, m.S->Rip);
        else Assert.Equal((vector, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Lmsw_sets_but_never_clears_protection()
    {
        using SystemMachine m = new M().Real();
        m.Cpu.Rax = 0xF;
        m.Run(a => a.lmsw(ax));
        Assert.Equal(0xFul, m.S->Cr0 & 0xF);
        m.Cpu.Rax = 0;
        m.Run(a => a.lmsw(ax));
        Assert.Equal(Cr0.Pe, m.S->Cr0 & 0xF);
        m.S->Cr0 |= Cr0.Ts;
        m.Run(a => a.clts());
        Assert.Equal(0ul, m.S->Cr0 & Cr0.Ts);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(9)]
    public void Control_registers_that_do_not_exist_are_undefined(int number)
    {
        using SystemMachine m = new M().Long64();
        m.Run((byte)(number >= 8 ? 0x44 : 0x40), 0x0F, 0x20, (byte)(0xC0 | (number & 7) << 3));
        Assert.Equal(6, m.HandlerVector);
    }

    [Fact]
    public void Cr8_has_four_bits()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rax = 9;
        m.Run(a => a.mov(cr8, rax));
        m.Cpu.Rbx = 0;
        m.Run(a => a.mov(rbx, cr8));
        Assert.Equal(9ul, m.Cpu.Rbx);
        m.Cpu.Rax = 16;
        m.Run(a => a.mov(cr8, rax));
        Assert.Equal(13, m.HandlerVector);
    }

    [Fact]
    public void Debug_registers_alias_and_have_fixed_bits()
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = 0;
        m.Run(a => a.mov(dr6, eax));
        m.Run(0x0F, 0x21, 0xE3);                                                    // mov ebx, dr4
        Assert.Equal(0xFFFF0FF0ul, m.Cpu.Rbx);
        m.Cpu.Rax = 0xFFFFFFFF & ~0x2000u;
        m.Run(0x0F, 0x23, 0xE8);                                                    // mov dr5, eax
        Assert.Equal(0xFFFF07FFul, m.S->Dr[7]);
        m.S->Dr[7] = 0x400;
        m.S->Cr4 |= Cr4.De;
        m.Cpu.ModeChanged();
        m.Run(0x0F, 0x21, 0xE3);
        Assert.Equal(6, m.HandlerVector);
    }

    [Fact]
    public void Debug_registers_six_and_seven_have_32_bits()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rax = 1UL << 32;
        m.Run(a => a.mov(dr7, rax));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Theory]
    [InlineData(7ul, true)]
    [InlineData(3ul, true)]
    [InlineData(1ul, true)]
    [InlineData(0ul, false)]
    [InlineData(5ul, false)]                                                        // AVX without SSE
    [InlineData(1ul | 1ul << 62, false)]
    public void Xsetbv_takes_consistent_components(ulong value, bool valid)
    {
        using SystemMachine m = new M().Long64();
        m.S->Cr4 |= Cr4.Osxsave;
        (m.Cpu.Rax, m.Cpu.Rdx, m.Cpu.Rcx) = ((uint)value, value >> 32, 0);
        m.Run(a => a.xsetbv());
        if (valid && (value & ~m.Cpu.Xcr0Supported) == 0) Assert.Equal(value, m.S->Xcr0);
        else Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Xgetbv_is_undefined_until_the_system_supports_it()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rcx = 0;
        m.Run(a => a.xgetbv());
        Assert.Equal(6, m.HandlerVector);
    }

    // Privilege

    public static TheoryData<byte[]> Privileged() => new()
    {
        new byte[] { 0xF4 }, new byte[] { 0x0F, 0x06 }, new byte[] { 0x0F, 0x08 }, new byte[] { 0x0F, 0x09 },
        new byte[] { 0x0F, 0x20, 0xC0 }, new byte[] { 0x0F, 0x22, 0xC0 }, new byte[] { 0x0F, 0x21, 0xC0 },
            new byte[] { 0x0F, 0x23, 0xC0 },
        new byte[] { 0x0F, 0x30 }, new byte[] { 0x0F, 0x32 }, new byte[] { 0x0F, 0x01, 0x13 },
            new byte[] { 0x0F, 0x01, 0x1B },
        new byte[] { 0x0F, 0x00, 0xD0 }, new byte[] { 0x0F, 0x00, 0xD8 }, new byte[] { 0x0F, 0x01, 0xF0 },
            new byte[] { 0x0F, 0x01, 0x3B },
        new byte[] { 0xFA }, new byte[] { 0xFB }, new byte[] { 0x0F, 0x35 }, new byte[] { 0xE4, 0x10 },
    };

    [Theory, MemberData(nameof(Privileged))]
    public void Privileged_instructions_fault_in_ring_3(byte[] code)
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.S->SysenterCs = 0x108;
        m.Cpu.Rbx = M.Data;
        m.Run(code);
        Assert.Equal((13, 0ul, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
    }

    [Theory]
    [InlineData(0, 0, true)]
    [InlineData(1, 0, false)]
    [InlineData(1, 1, true)]
    [InlineData(3, 1, false)]
    [InlineData(3, 3, true)]
    public void Popf_changes_the_interrupt_flag_up_to_iopl_and_iopl_in_ring_0(int cpl, int iopl, bool changes)
    {
        using SystemMachine m = new M().Protected32();
        if (cpl == 1) m.Ring(M.Code1, M.Data1, M.Stack1);
        if (cpl == 3) m.Ring3();
        m.S->RflagsSystem = 2 | (ulong)iopl << 12;
        m.PushAll(4, If | (Iopl ^ (ulong)iopl << 12) | Rflags.Vm | Rflags.Rf | Rflags.Vif | Rflags.Vip | Rflags.Id
            | Rflags.Of);
        m.Run(0x9D);
        ulong expectedIopl = cpl == 0 ? Iopl ^ (ulong)iopl << 12 : (ulong)iopl << 12;
        Assert.Equal(2 | expectedIopl | (changes ? If : 0) | Rflags.Id | Rflags.Of, m.Cpu.AllFlags);
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(3, true)]
    [InlineData(1, false)]
    public void Cli_and_sti_work_up_to_iopl(int iopl, bool works)
    {
        using SystemMachine m = new M().Protected32();
        if (iopl != 0) m.Ring3();
        m.S->RflagsSystem = 2 | (ulong)iopl << 12;
        m.Run(0xFB);
        if (!works) { Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4))); return; }
        Assert.Equal((If, 1), (m.Cpu.AllFlags & If, m.S->InterruptShadow));
        m.Run(0xFA);
        Assert.Equal(0ul, m.Cpu.AllFlags & If);
    }

    [Fact]
    public void With_pvi_a_program_of_ring_3_has_a_virtual_interrupt_flag()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.S->Cr4 |= Cr4.Pvi;
        m.Run(0xFB);
        Assert.Equal(Rflags.Vif, m.Cpu.AllFlags & (If | Rflags.Vif));
        m.Run(0xFA);
        Assert.Equal(0ul, m.Cpu.AllFlags & (If | Rflags.Vif));
        m.S->RflagsSystem |= Rflags.Vip;
        m.Run(0xFB);
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
    }

    [Theory]
    [InlineData(0, 13)]
    [InlineData(3, -1)]
    public void Pushf_and_popf_in_virtual_8086_mode_need_iopl_3(int iopl, int vector)
    {
        foreach (byte opcode in new byte[] { 0x9C, 0x9D })
        {
            using SystemMachine m = new M().Virtual8086(iopl);
            m.Run(opcode);
            if (vector < 0) Assert.Equal(1ul, m.S->Rip);
            else Assert.Equal(vector, m.HandlerVector);
        }
    }

    [Fact]
    public void Pushf_hides_vm_and_rf()
    {
        using SystemMachine m = new M().Protected32();
        m.S->RflagsSystem |= Rflags.Rf | If;
        m.Run(0x9C);
        Assert.Equal(2 | If, m.Top(0, 4));
    }

    [Fact]
    public void Hlt_halts()
    {
        using SystemMachine m = new M().Protected32();
        m.Run(0xF4);
        Assert.Equal((1, M.Code + 1), (m.S->Halted, m.S->Rip));
    }

    [Fact]
    public void Tsd_keeps_the_time_stamp_from_programs()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.Run(0x0F, 0x31);
        Assert.Equal(M.Code + 2, m.S->Rip);
        m.S->Cr4 |= Cr4.Tsd;
        m.Run(0x0F, 0x31);
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
    }

    // Ports

    [Fact]
    public void In_and_out_use_the_width_of_the_accumulator()
    {
        using SystemMachine m = new M().Protected32();
        (m.Cpu.Rax, m.Cpu.Rdx) = (0x11223344, 0x3F8);
        m.Ports.Next = 0xAABBCCDD;
        m.Run(0xEC);
        Assert.Equal(0x112233DDul, m.Cpu.Rax);
        m.Run(0x66, 0xED);
        Assert.Equal(0x1122CCDEul, m.Cpu.Rax);
        m.Run(0xE5, 0x40);
        Assert.Equal(0xAABBCCDFul, m.Cpu.Rax);
        m.Run(0xEF);
        m.Run(0xE6, 0x80);
        Assert.Equal([(0x3F8, 4, 0xAABBCCDF), (0x80, 1, 0xDF)], m.Ports.Writes);
    }

    [Theory]
    [InlineData(0x10, 1, true)]
    [InlineData(0x11, 1, false)]
    [InlineData(0x10, 2, false)]
    [InlineData(0x17, 1, true)]
    [InlineData(0x17, 2, true)]                                                     // spans two bytes of the map
    [InlineData(0x7F8, 1, false)]                                                   // beyond the segment
    public void The_permission_bitmap_decides_above_iopl(int port, int size, bool permitted)
    {
        using SystemMachine m = new M().Protected32();
        m.S->Tr.Limit = 0x68 + 0xFF;
        m.Write(M.Tss + 0x68 + 2, 0x7E, 1);
        m.Write(M.Tss + 0x68 + 3, 0xFE, 1);
        m.Ring3();
        m.Cpu.Rdx = (ulong)port;
        m.Run(size == 1 ? [0xEC] : [0x66, 0xED]);
        if (permitted) Assert.Equal(M.Code + (ulong)size, m.S->Rip);
        else Assert.Equal((13, 0ul, 1ul), (m.HandlerVector, m.Top(0, 4), m.Ports.Next));
    }

    [Fact]
    public void In_virtual_8086_mode_the_bitmap_decides_whatever_iopl()
    {
        using SystemMachine m = new M().Virtual8086(3);
        m.Run(0xE4, 0x10);
        Assert.Equal(13, m.HandlerVector);
    }

    [Fact]
    public void Rep_insw_fills_memory_and_counts_down()
    {
        using SystemMachine m = new M().Protected32();
        (m.Cpu.Rcx, m.Cpu.Rdi, m.Cpu.Rdx) = (256, M.Data, 0x1F0);
        m.Run(0x66, 0xF3, 0x6D);
        Assert.Equal((0ul, M.Data + 512, M.Code + 3), (m.Cpu.Rcx, m.Cpu.Rdi, m.S->Rip));
        Assert.Equal((1ul, 256ul), (m.Read(M.Data, 2), m.Read(M.Data + 510, 2)));
    }

    [Fact]
    public void A_fault_in_the_middle_of_rep_insb_loses_no_byte_and_can_restart()
    {
        using SystemMachine m = new M().Long64();
        m.SetPage(0x21000, 0x21000 | 5);
        (m.Cpu.Rcx, m.Cpu.Rdi, m.Cpu.Rdx) = (16, 0x20FFC, 0x1F0);
        m.Run(0xF3, 0x6C);
        Assert.Equal((14, 3ul, 0x21000ul), (m.HandlerVector, m.Top(0, 8), m.S->Cr2));
        Assert.Equal((12ul, 0x21000ul, 5ul), (m.Cpu.Rcx, m.Cpu.Rdi, m.Ports.Next));
        m.SetPage(0x21000, 0x21000 | 7);
        m.Rsp += 8;
        m.Run(a => a.iretq());
        m.Step();
        Assert.Equal((0ul, 0x2100Cul, 17ul, M.Code + 2), (m.Cpu.Rcx, m.Cpu.Rdi, m.Ports.Next, m.S->Rip));
    }

    [Fact]
    public void Outsb_goes_backwards_when_df_is_set_and_wraps_with_the_address_size()
    {
        using SystemMachine m = new M().Real();
        m.S->RflagsSystem |= Rflags.Df;
        m.Cpu.LoadSegment(Seg.Ds, 0x1800);
        m.Write(M.Data, 0x5A, 1);
        m.Write(M.Data + 0xFFFF, 0xA5, 1);
        (m.Cpu.Rcx, m.Cpu.Rsi, m.Cpu.Rdx) = (0xABCD0002, 0xABCD0000, 0x99);
        m.Run(0xF3, 0x6E);
        Assert.Equal([(0x99, 1, 0x5A), (0x99, 1, 0xA5)], m.Ports.Writes);
        Assert.Equal((0xABCD0000ul, 0xABCDFFFEul), (m.Cpu.Rcx, m.Cpu.Rsi));
    }

    [Fact]
    public void A_long_repetition_pauses_for_interrupts_at_itself()
    {
        using SystemMachine m = new M().Protected32();
        (m.Cpu.Rcx, m.Cpu.Rdi, m.Cpu.Rdx) = (5000, M.Data, 0x1F0);
        m.Run(0xF3, 0x6C);
        Assert.Equal(M.Code, m.S->Rip);
        Assert.InRange(m.Cpu.Rcx, 1ul, 4999ul);
        while (m.Cpu.Rcx != 0) m.Step();
        Assert.Equal((M.Code + 2, 5001ul), (m.S->Rip, m.Ports.Next));
    }
}
