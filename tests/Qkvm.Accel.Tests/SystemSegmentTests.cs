using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Segment registers, descriptor tables, LAR and kin. Intel SDM vol. 2 and vol. 3, chapter 5.</summary>
public unsafe class SystemSegmentTests
{
    [Theory]
    [InlineData(M.Data0, 0, M.Data0)]
    [InlineData(M.Data3, 0, M.Data3)]
    [InlineData(M.Data0 | 3, 13, M.Data0)]                                          // RPL above DPL
    [InlineData(M.Code0, 0, M.Code0)]                                               // readable code
    [InlineData(M.ExecuteOnly, 13, M.ExecuteOnly)]
    [InlineData(M.Conforming | 3, 0, M.Conforming | 3)]
    [InlineData(M.AbsentData, 11, M.AbsentData)]
    [InlineData(M.TssSelector, 13, M.TssSelector)]
    [InlineData(M.Beyond, 13, M.Beyond)]
    [InlineData(0x104, 13, 0x104)]
    [InlineData(3, 0, 3)]
    public void Loading_a_data_segment_checks_type_privilege_and_presence(int selector, int vector, int result)
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = (ulong)selector;
        m.Run(a => a.mov(ds, ax));
        if (vector == 0) Assert.Equal((result, M.Code + 3), (m.S->Ds.Selector, m.S->Rip));
        else Assert.Equal((vector, (ulong)result, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
    }

    [Theory]
    [InlineData(M.Data0, 0, M.Data0)]
    [InlineData(0, 13, 0)]
    [InlineData(M.Data3, 13, M.Data3 & 0xFFFC)]
    [InlineData(M.ReadOnly, 13, M.ReadOnly)]
    [InlineData(M.Code0, 13, M.Code0)]
    [InlineData(M.AbsentData, 12, M.AbsentData)]
    public void Loading_the_stack_segment_is_stricter_and_holds_interrupts_off(int selector, int vector, int result)
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = (ulong)selector;
        m.Run(a => a.mov(ss, ax));
        if (vector == 0) Assert.Equal((result, CpuState.StackShadow), (m.S->Ss.Selector, m.S->InterruptShadow));
        else Assert.Equal((vector, (ulong)result), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void A_segment_of_the_ldt_loads()
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Ldt + 8, M.Descriptor(0x12345678, 0x9876, 0x92, 4), 8);
        m.Cpu.Rax = 0x0C;
        m.Run(a => a.mov(fs, ax));
        Assert.Equal((0x12345678ul, 0x9876u), (m.S->Fs.Base, m.S->Fs.Limit));
        Assert.Equal(0x93ul, m.Read(M.Ldt + 13, 1));
        m.S->Ldtr = default;
        m.Run(a => a.mov(fs, ax));
        Assert.Equal((13, 0x0Cul), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void A_null_stack_segment_is_fine_in_64_bit_mode_below_ring_3()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rax = 0;
        m.Run(a => a.mov(ss, ax));
        Assert.Equal((0, M.Code + 3), (m.S->Ss.Selector, m.S->Rip));
        using SystemMachine n = new M().Long64().Ring3();
        n.Cpu.Rax = 3;
        n.Run(a => a.mov(ss, ax));
        Assert.Equal((13, 0ul), (n.HandlerVector, n.Top(0, 8)));
    }

    [Fact]
    public void A_limit_loaded_in_protected_mode_survives_in_real_mode()
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = Cr0.Et;
        m.Run(a => a.mov(cr0, eax));
        m.Cpu.Rax = 0x2000;
        m.Run(a => a.mov(ds, ax));
        Assert.Equal((0x20000ul, uint.MaxValue, false), (m.S->Ds.Base, m.S->Ds.Limit, m.Cpu.IsProtected));
        m.Write(0x120000, 0x77, 1);
        Assert.Equal(0x77, m.Cpu.Read<byte>(Seg.Ds, 0x100000));
    }

    [Fact]
    public void Pop_of_a_bad_selector_leaves_the_stack_alone()
    {
        using SystemMachine m = new M().Protected32();
        m.PushAll(4, M.AbsentData);
        ulong before = m.Rsp;
        m.Run(a => a.pop(es));
        Assert.Equal((11, before - 16), (m.HandlerVector, m.Rsp));
    }

    [Fact]
    public void Push_and_pop_move_the_stack_by_the_operand_size()
    {
        using SystemMachine m = new M().Protected32();
        ulong before = m.Rsp;
        m.Run(0x66, 0x1E);                                                          // push ds, 16 bits
        Assert.Equal((before - 2, (ulong)M.Data0), (m.Rsp, m.Top(0, 2)));
        m.Run(0x66, 0x0F, 0xA1);                                                    // pop fs, 16 bits
        Assert.Equal((before, M.Data0), (m.Rsp, m.S->Fs.Selector));
        using SystemMachine n = new M().Long64();
        before = n.Rsp;
        n.Run(a => a.push(fs));
        Assert.Equal((before - 8, (ulong)M.Data3), (n.Rsp, n.Top(0, 8)));
        n.Run(a => a.pop(gs));
        Assert.Equal((before, M.Data3), (n.Rsp, n.S->Gs.Selector));
    }

    [Fact]
    public void Lds_loads_offset_and_segment_or_nothing()
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Data, 0x12345678 | (ulong)M.Data3 << 32, 8);
        m.Run(0xC5, 0x05, 0x00, 0x80, 0x01, 0x00);                                  // lds eax, [18000]
        Assert.Equal((0x12345678ul, M.Data3), (m.Cpu.Rax, m.S->Ds.Selector));
        m.Write(M.Data, M.Beyond, 4);
        m.Write(M.Data + 4, M.Beyond, 2);
        m.Run(0xC4, 0x1D, 0x00, 0x80, 0x01, 0x00);                                  // les ebx, [18000]
        Assert.Equal((13, (ulong)M.Beyond, 0ul), (m.HandlerVector, m.Top(0, 4), m.Cpu.Rbx));
    }

    [Fact]
    public void Mov_from_a_segment_register_zero_extends_registers_and_stores_words()
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = 0xFFFFFFFF;
        m.Run(0x8C, 0xD8);
        Assert.Equal((ulong)M.Data0, m.Cpu.Rax);
        m.Write(M.Data, 0xFFFFFFFF, 4);
        m.Run(0x8C, 0x1D, 0x00, 0x80, 0x01, 0x00);
        Assert.Equal(0xFFFF0000 | M.Data0, m.Read(M.Data, 4));
    }

    [Fact]
    public void Mov_to_cs_is_undefined()
    {
        using SystemMachine m = new M().Protected32();
        m.Run(0x8E, 0xC8);
        Assert.Equal(6, m.HandlerVector);
    }

    // LAR, LSL, VERR, VERW, ARPL

    public static TheoryData<ushort, bool, bool, bool, bool> Inspections() => new()
    {
        // selector, LAR, LSL, VERR, VERW
        { 0, false, false, false, false },
        { M.Beyond, false, false, false, false },
        { M.Code0, true, true, true, false },
        { M.ExecuteOnly, true, true, false, false },
        { M.Data0, true, true, true, true },
        { M.ReadOnly, true, true, true, false },
        { M.Data0 | 3, false, false, false, false },
        { M.Conforming | 3, true, true, true, false },
        { M.TssSelector, true, true, false, false },
        { M.LdtSelector, true, true, false, false },
        { M.Tss16Selector, true, true, false, false },
        { M.Gate, true, false, false, false },
        { M.AbsentData, true, true, true, true },
    };

    [Theory, MemberData(nameof(Inspections))]
    public void Inspecting_a_selector_follows_the_tables(ushort selector, bool lar, bool lsl, bool verr, bool verw)
    {
        byte[][] programs = [[0x0F, 0x02, 0xD8], [0x0F, 0x03, 0xD8], [0x0F, 0x00, 0xE0], [0x0F, 0x00, 0xE8]];
        bool[] expected = [lar, lsl, verr, verw];
        for (int i = 0; i < programs.Length; i++)
        {
            using SystemMachine m = new M().Protected32();
            m.SetDescriptor(M.Gate, M.GateTo(M.Code0, 0, 0x8C));
            (m.Cpu.Rax, m.Cpu.Rbx) = (selector, 0xABCD1234);
            m.Run(programs[i]);
            Assert.Equal(expected[i], m.Cpu.Zero);
            if (i < 2 && !expected[i]) Assert.Equal(0xABCD1234, m.Cpu.Rbx);
        }
    }

    [Fact]
    public void Lar_and_lsl_return_rights_and_byte_limits()
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = M.Data3;
        m.Run(0x0F, 0x02, 0xD8);
        Assert.Equal(0x00C0F200ul, m.Cpu.Rbx);
        m.Run(0x0F, 0x03, 0xD8);
        Assert.Equal(0xFFFFFFFFul, m.Cpu.Rbx);
        m.Cpu.Rax = M.TssSelector;
        m.Run(0x0F, 0x03, 0xD8);
        Assert.Equal(0x7FFul, m.Cpu.Rbx);
    }

    [Fact]
    public void In_long_mode_gates_and_16_bit_tasks_cannot_be_inspected()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rax = M.Tss16Selector;
        m.Run(0x0F, 0x02, 0xD8);
        Assert.False(m.Cpu.Zero);
        m.Cpu.Rax = M.TssSelector;
        m.Run(0x0F, 0x03, 0xD8);
        Assert.True(m.Cpu.Zero);
    }

    [Fact]
    public void Arpl_raises_the_requested_level()
    {
        using SystemMachine m = new M().Protected32();
        (m.Cpu.Rax, m.Cpu.Rbx) = (0x10, 3);
        m.Run(0x63, 0xD8);
        Assert.Equal((0x13ul, true), (m.Cpu.Rax, m.Cpu.Zero));
        m.Cpu.Rbx = 1;
        m.Run(0x63, 0xD8);
        Assert.Equal((0x13ul, false), (m.Cpu.Rax, m.Cpu.Zero));
    }

    [Theory]
    [InlineData(0x0F, 0x02, 0xD8)]
    [InlineData(0x0F, 0x03, 0xD8)]
    [InlineData(0x0F, 0x00, 0xE0)]
    [InlineData(0x0F, 0x00, 0xC0)]
    [InlineData(0x0F, 0x00, 0xD8)]
    public void What_protected_mode_alone_knows_is_undefined_in_real_and_virtual_mode(int a, int b, int c)
    {
        using SystemMachine m = new M().Real();
        m.Run((byte)a, (byte)b, (byte)c);
        Assert.Equal(6, m.HandlerVector);
        using SystemMachine n = new M().Virtual8086();
        n.Run((byte)a, (byte)b, (byte)c);
        Assert.Equal(6, n.HandlerVector);
    }

    // Tables

    [Theory]
    [InlineData(false, 0x345678ul)]                                                 // 16-bit operands: 24-bit bases
    [InlineData(true, 0x12345678ul)]
    public void Lgdt_takes_a_base_of_the_operand_size(bool wide, ulong expected)
    {
        using SystemMachine m = new M().Real();
        m.Cpu.LoadSegment(Seg.Ds, 0x1800);
        m.Write(M.Data, 0x12345678_04FF, 8);
        m.Run(wide ? [0x66, 0x0F, 0x01, 0x16, 0, 0] : [0x0F, 0x01, 0x16, 0, 0]);
        Assert.Equal((0x4FFu, expected), (m.S->GdtrLimit, m.S->GdtrBase));
    }

    [Fact]
    public void Sidt_stores_what_lidt_loaded()
    {
        using SystemMachine m = new M().Long64();
        m.Write(M.Data, 0xFFF, 2);
        m.Write(M.Data + 2, 0xFFFF_FF80_0000_2000, 8);
        m.Cpu.Rbx = M.Data;
        m.Run(a => a.lidt(__[rbx]));
        Assert.Equal(0xFFFF_FF80_0000_2000, m.S->IdtrBase);
        m.Cpu.Rbx = M.Data + 0x100;
        m.Run(a => a.sidt(__[rbx]));
        Assert.Equal((0xFFFul, 0xFFFF_FF80_0000_2000), (m.Read(M.Data + 0x100, 2), m.Read(M.Data + 0x102, 8)));
        m.Write(M.Data + 0x102, 0x0100_0000_0000_0000, 8);
        m.Run(a => a.lidt(__[rbx]));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Umip_hides_the_tables_from_programs()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.Cpu.Rbx = M.Data;
        m.Run(a => a.sgdt(__[ebx]));
        Assert.Equal((0x1FFul, M.Gdt), (m.Read(M.Data, 2), m.Read(M.Data + 2, 4)));
        m.S->Cr4 |= Cr4.Umip;
        foreach (byte[] code in new byte[][] { [0x0F, 0x01, 0x03], [0x0F, 0x01, 0x0B], [0x0F, 0x00, 0xC0],
            [0x0F, 0x00, 0xC8], [0x0F, 0x01, 0xE0] })
        {
            m.Ring3();
            m.S->Rip = M.Code;
            m.Run(code);
            Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
        }
    }

    [Theory]
    [InlineData(0, 13, 0)]
    [InlineData(0x0C, 13, 0x0C)]                                                    // in the LDT
    [InlineData(M.Data0, 13, M.Data0)]
    [InlineData(M.TssSelector, 13, M.TssSelector)]                                  // busy
    [InlineData(M.OtherTssSelector, 0, 0x8B)]
    [InlineData(M.Tss16Selector, 0, 0x83)]
    public void Ltr_takes_an_available_task_and_marks_it_busy(int selector, int vector, int result)
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.Rax = (ulong)selector;
        m.Run(a => a.ltr(ax));
        if (vector == 0) Assert.Equal((result, selector), (m.AccessByte((ushort)selector), m.S->Tr.Selector));
        else Assert.Equal((vector, (ulong)result), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void Ltr_and_lldt_read_sixteen_bytes_in_long_mode()
    {
        using SystemMachine m = new M().Long64();
        m.SetDescriptor(M.OtherTssSelector, M.Descriptor(0x12345678, 0x67, 0x89, 0), 0xFFFFFF80, wide: true);
        m.Cpu.Rax = M.OtherTssSelector;
        m.Run(a => a.ltr(ax));
        Assert.Equal(0xFFFF_FF80_1234_5678, m.S->Tr.Base);
        m.SetDescriptor(M.OtherTssSelector, M.Descriptor(0x12345678, 0x67, 0x82, 0), 0xFFFFFF80, wide: true);
        m.Run(a => a.lldt(ax));
        Assert.Equal(0xFFFF_FF80_1234_5678, m.S->Ldtr.Base);
        m.SetDescriptor(M.OtherTssSelector, M.Descriptor(0x12345678, 0x67, 0x82, 0), 0x100_FFFFFF80, wide: true);
        m.Run(a => a.lldt(ax));
        Assert.Equal((13, (ulong)M.OtherTssSelector), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Swapgs_and_the_base_instructions_move_bases()
    {
        using SystemMachine m = new M().Long64();
        m.S->KernelGsBase = 0x1234_5678_9ABC;
        m.Run(a => a.swapgs());
        Assert.Equal((0x1234_5678_9ABCul, 0ul), (m.S->Gs.Base, m.S->KernelGsBase));
        m.Cpu.Rax = 0x7777;
        m.Place(a => a.wrfsbase(rax));
        m.Step();
        Assert.Equal(6, m.HandlerVector);
        m.S->Cr4 |= Cr4.Fsgsbase;
        m.S->Rip = M.Code + 3;
        m.Step();
        Assert.Equal(0x7777ul, m.S->Fs.Base);
        m.Run(a => a.rdgsbase(rcx));
        Assert.Equal(0x1234_5678_9ABCul, m.Cpu.Rcx);
        m.Cpu.Rax = 0x0100_0000_0000_0000;
        m.Run(a => a.wrgsbase(rax));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }
}
