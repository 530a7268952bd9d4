using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Intel SDM vol. 3, chapter 6: delivery, error codes, nested faults.</summary>
public unsafe class SystemExceptionTests
{
    const ulong If = Rflags.If, Tf = Rflags.Tf, Nt = Rflags.Nt, Rf = Rflags.Rf;

    public static TheoryData<int, uint?> Exceptions() => new()
    {
        { 0, null }, { 1, null }, { 2, null }, { 3, null }, { 4, null }, { 5, null }, { 6, null }, { 7, null },
            { 8, 0 },
        { 10, 0x28 }, { 11, 0x30 }, { 12, 0 }, { 13, 0x18 }, { 14, 7 }, { 16, null }, { 17, 0 }, { 18, null },
            { 19, null }, { 21, 3 },
    };

    [Theory, MemberData(nameof(Exceptions))]
    public void An_exception_in_ring_3_enters_ring_0_with_its_frame(int vector, uint? error)
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.S->RflagsSystem |= If | Nt;
        m.Cpu.Deliver(vector, error, false, false);
        Assert.Equal(vector, m.HandlerVector);
        Assert.Equal((M.Code0, 0), (m.S->Cs.Selector, m.Cpu.Cpl));
        int at = 0;
        if (error is { } code) Assert.Equal(code, m.Top(at++, 4));
        Assert.Equal(M.Code, m.Top(at, 4));
        Assert.Equal(M.Code3, m.Top(at + 1, 4));
        bool isFault = vector is not (1 or 2 or 3 or 4 or 8);
        Assert.Equal(2 | If | Nt | (isFault ? Rf : 0), m.Top(at + 2, 4));
        Assert.Equal(M.Stack3, m.Top(at + 3, 4));
        Assert.Equal(M.Data3, m.Top(at + 4, 4));
        Assert.Equal(M.Stack0 - (ulong)(at + 5) * 4, m.Rsp);
        Assert.Equal(2ul, m.Cpu.AllFlags);
    }

    [Theory, MemberData(nameof(Exceptions))]
    public void An_exception_in_64_bit_mode_pushes_five_aligned_quadwords(int vector, uint? error)
    {
        using SystemMachine m = new M().Long64();
        m.Rsp = 0x8888;
        m.S->RflagsSystem |= If;
        m.Cpu.Deliver(vector, error, false, false);
        Assert.Equal(vector, m.HandlerVector);
        int at = 0;
        if (error is { } code) Assert.Equal(code, m.Top(at++, 8));
        Assert.Equal(M.Code, m.Top(at, 8));
        Assert.Equal(M.Code64, m.Top(at + 1, 8));
        Assert.Equal(0x8888ul, m.Top(at + 3, 8));
        Assert.Equal(M.Data0, m.Top(at + 4, 8));
        Assert.Equal(0x8880ul - (ulong)(at + 5) * 8, m.Rsp);
        Assert.Equal(M.Data0, m.S->Ss.Selector);
    }

    [Fact]
    public void In_64_bit_mode_a_ring_change_loads_a_null_stack_segment_and_the_stack_of_the_task()
    {
        using SystemMachine m = new M().Long64().Ring3();
        m.Cpu.Deliver(Vector.PageFault, 4, false, false);
        Assert.Equal(M.Stack0 - 48, m.Rsp);
        Assert.Equal((0, 0), (m.S->Ss.Selector, m.Cpu.Cpl));
        Assert.Equal(M.Data3, m.Top(5, 8));
    }

    [Fact]
    public void The_interrupt_stack_table_is_used_in_the_same_ring_too()
    {
        using SystemMachine m = new M().Long64();
        m.SetGate64(8, M.Code64, 0x8E, ist: 1);
        m.Cpu.Deliver(8, 0, false, false);
        Assert.Equal(M.StackIst - 48, m.Rsp);
        Assert.Equal(M.Stack0 - 0x100, m.Top(4, 8));
    }

    [Fact]
    public void A_trap_gate_leaves_interrupts_on()
    {
        using SystemMachine m = new M().Protected32();
        m.SetGate32(3, M.Code0, 0x8F);
        m.S->RflagsSystem |= If | Tf;
        m.Cpu.Deliver(3, null, false, false);
        Assert.Equal(If | 2, m.Cpu.AllFlags);
    }

    [Fact]
    public void A_16_bit_gate_pushes_words()
    {
        using SystemMachine m = new M().Protected32();
        m.SetGate32(13, M.Code0, 0x86);
        ulong before = m.Rsp;
        m.Cpu.Deliver(13, 0x50, false, false);
        Assert.Equal(before - 8, m.Rsp);
        Assert.Equal(0x50ul, m.Top(0, 2));
        Assert.Equal(M.Code & 0xFFFF, m.Top(1, 2));
        Assert.Equal(M.Code0, m.Top(2, 2));
    }

    [Fact]
    public void In_real_mode_an_exception_has_no_error_code()
    {
        using SystemMachine m = new M().Real();
        m.S->RflagsSystem |= If | Tf;
        m.Cpu.Deliver(13, 0, false, false);
        Assert.Equal(13, m.HandlerVector);
        Assert.Equal(0xFFAul, m.Rsp);
        Assert.Equal((0ul, M.Code >> 4, If | Tf | 2), (m.Top(0, 2), m.Top(1, 2), m.Top(2, 2)));
        Assert.Equal(2ul, m.Cpu.AllFlags);
    }

    [Fact]
    public void In_real_mode_the_table_may_lie_anywhere()
    {
        using SystemMachine m = new M().Real();
        m.S->IdtrBase = 0x6800;
        m.Write(0x6800 + 0x21 * 4, 0x12345678, 4);
        m.Run(a => a.@int(0x21));
        Assert.Equal((0x1234, 0x5678ul), (m.S->Cs.Selector, m.S->Rip));
        Assert.Equal(2ul, m.Top(0, 2));
    }

    [Fact]
    public void A_vector_beyond_the_table_in_real_mode_is_a_protection_fault()
    {
        using SystemMachine m = new M().Real();
        m.S->IdtrLimit = 14 * 4 - 1;
        m.Run(a => a.@int(0x21));
        Assert.Equal(13, m.HandlerVector);
        Assert.Equal(0ul, m.Top(0, 2));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Int_returns_behind_itself_and_needs_the_gates_privilege(bool is64)
    {
        using SystemMachine m = is64 ? new M().Long64().Ring3() : new M().Protected32().Ring3();
        int size = is64 ? 8 : 4;
        m.Run(a => a.@int(0x80));
        Assert.Equal(0x80, m.HandlerVector);
        Assert.Equal(M.Code + 2, m.Top(0, size));

        using SystemMachine n = is64 ? new M().Long64().Ring3() : new M().Protected32().Ring3();
        if (is64) n.SetGate64(0x80, M.Code64, 0x8E);
        else n.SetGate32(0x80, M.Code0, 0x8E);
        n.Run(a => a.@int(0x80));
        Assert.Equal(13, n.HandlerVector);
        Assert.Equal(0x80ul << 3 | 2, n.Top(0, size));
        Assert.Equal(M.Code, n.Top(1, size));
    }

    [Fact]
    public void Int1_ignores_the_gates_privilege()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.SetGate32(1, M.Code0, 0x8E);
        m.Run(0xF1);
        Assert.Equal(1, m.HandlerVector);
        Assert.Equal(M.Code + 1, m.Top(0, 4));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Into_traps_on_overflow_alone(bool overflow)
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.ArithmeticFlags = overflow ? Rflags.Of : 0;
        m.Run(0xCE);
        Assert.Equal(overflow ? M.Handlers + 0x40 : M.Code + 1, m.S->Rip);
        if (overflow) Assert.Equal(M.Code + 1, m.Top(0, 4));
    }

    [Fact]
    public void Bound_faults_outside_its_bounds()
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Data, 5ul << 32 | unchecked((uint)-5), 8);
        m.Cpu.Rax = unchecked((uint)-5);
        m.Run(a => a.bound(eax, __[(int)M.Data]));
        Assert.Equal(M.Code + 6, m.S->Rip);
        m.S->Rip = M.Code;
        m.Cpu.Rax = 6;
        m.Step();
        Assert.Equal(5, m.HandlerVector);
        Assert.Equal(M.Code, m.Top(0, 4));
    }

    [Fact]
    public void Ud2_faults_at_itself()
    {
        using SystemMachine m = new M().Long64();
        m.Run(a => a.ud2());
        Assert.Equal((6, M.Code), (m.HandlerVector, m.Top(0, 8)));
    }

    public static TheoryData<int, ulong, int, uint> BadGates() => new()
    {
        { 0x30, 0, 13, 0x30 << 3 | 2 },                                             // no gate
        { 0x30, M.GateTo(M.Code0, 0x5000, 0x6E), 11, 0x30 << 3 | 2 },              // not present
        { 0x30, M.GateTo(M.Code0, 0x5000, 0xEC), 13, 0x30 << 3 | 2 },              // a call gate
        { 0x30, M.GateTo(0, 0x5000, 0xEE), 13, 0 },                                 // null code selector
        { 0x30, M.GateTo(M.Beyond, 0x5000, 0xEE), 13, M.Beyond },                   // beyond the GDT
        { 0x30, M.GateTo(M.Data0, 0x5000, 0xEE), 13, M.Data0 },                     // not code
        { 0x30, M.GateTo(M.AbsentCode, 0x5000, 0xEE), 11, M.AbsentCode },           // absent code
        { 0x30, M.GateTo(M.Code3, 0x5000, 0xEE), 13, M.Code3 & 0xFFFC },            // outer code
        { 0x30, M.GateTo(0x104, 0x5000, 0xEE), 13, 0x104 },                         // beyond the LDT: TI is set
    };

    [Theory, MemberData(nameof(BadGates))]
    public void A_bad_gate_faults_with_its_error_code_and_ext_for_what_software_did_not_ask(int vector, ulong gate,
        int expected, uint error)
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Idt + (uint)vector * 8, gate, 8);
        m.Run(a => a.@int((byte)vector));
        Assert.Equal((expected, (ulong)error, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));

        using SystemMachine n = new M().Protected32();
        n.Write(M.Idt + (uint)vector * 8, gate, 8);
        n.Cpu.Deliver(vector, null, false, true);
        Assert.Equal((expected, (ulong)error | 1), (n.HandlerVector, n.Top(0, 4)));
    }

    public static TheoryData<ushort, int, uint> BadStacks() => new()
    {
        { 0, 10, 0 }, { M.Beyond, 10, M.Beyond }, { M.Data3, 10, M.Data3 & 0xFFFC }, { M.ReadOnly, 10, M.ReadOnly },
        { M.Code0, 10, M.Code0 }, { M.AbsentData, 12, M.AbsentData }, { M.Data0 | 1, 10, M.Data0 },
    };

    [Theory, MemberData(nameof(BadStacks))]
    public void A_bad_inner_stack_is_an_invalid_task_state(ushort stack, int expected, uint error)
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.Write(M.Tss + 8, stack, 4);
        // The fault's own handler runs in ring 3's conforming segment, which needs no inner stack.
        m.SetGate32(expected, M.Conforming, 0xEE);
        m.Run(a => a.@int(0x80));
        Assert.Equal((expected, (ulong)error, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
        Assert.Equal(3, m.Cpu.Cpl);
    }

    [Fact]
    public void A_task_state_too_short_for_the_stack_is_invalid()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.S->Tr.Limit = 8;
        m.SetGate32(10, M.Conforming, 0xEE);
        m.Run(a => a.@int(0x80));
        Assert.Equal((10, (ulong)M.TssSelector), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void A_frame_that_does_not_fit_the_inner_stack_is_a_stack_fault_with_its_selector()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.SetDescriptor(M.Data0, M.Descriptor(0x8000, 0xFFF, 0x92, 4));
        m.Write(M.Tss + 4, 8, 4);
        m.SetGate32(12, M.Conforming, 0xEE);
        m.Run(a => a.@int(0x80));
        Assert.Equal((12, (ulong)M.Data0), (m.HandlerVector, m.Top(0, 4)));
        Assert.Equal(M.Stack3 - 16, m.Rsp);
    }

    [Fact]
    public void A_non_canonical_interrupt_stack_is_a_stack_fault()
    {
        using SystemMachine m = new M().Long64();
        m.Write(M.Tss + 0x24, 0x8000_0000_0000_0000, 8);
        m.SetGate64(0x30, M.Code64, 0xEE, ist: 1);
        m.Run(a => a.@int(0x30));
        Assert.Equal((12, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Theory]
    [InlineData(M.Code0)]                                                           // not 64-bit code
    [InlineData(M.Data0)]
    public void A_gate_in_long_mode_leads_to_64_bit_code_only(ushort selector)
    {
        using SystemMachine m = new M().Long64();
        m.SetGate64(0x30, selector, 0xEE);
        m.Run(a => a.@int(0x30));
        Assert.Equal((13, (ulong)selector), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void A_page_fault_reports_address_and_access()
    {
        using SystemMachine m = new M().Long64().Ring3();
        m.SetPage(M.Data, 0);
        m.S->LStar = 0;
        m.Run(a => a.verr(__word_ptr[(long)M.Data + 8]));
        Assert.Equal((14, 4ul, M.Data + 8), (m.HandlerVector, m.Top(0, 8), m.S->Cr2));
        Assert.Equal(M.Code, m.Top(1, 8));
    }

    [Theory]
    [InlineData(0, 0, false)]                                                       // #DE, then #GP: double
    [InlineData(13, 0, false)]
    [InlineData(14, 0, false)]
    [InlineData(6, 0, true)]                                                        // benign first: in turn
    [InlineData(1, 0, true)]
    public void A_contributory_fault_on_top_of_another_is_a_double_fault(int first, uint error, bool inTurn)
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Idt + (uint)first * 8, 0, 8);
        if (first == 13) m.Write(M.Idt + 11 * 8, 0, 8);
        m.Cpu.Deliver(first, first is 13 or 14 ? error : null, false, false);
        if (inTurn) Assert.Equal((13, ((ulong)first << 3) | 3), (m.HandlerVector, m.Top(0, 4)));
        else Assert.Equal((8, 0ul, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
    }

    [Fact]
    public void An_external_interrupt_is_benign_whatever_its_vector()
    {
        using SystemMachine m = new M().Protected32();
        m.Write(M.Idt + 8 * 8, 0, 8);
        m.Cpu.Deliver(8, null, false, true);
        Assert.Equal((13, (8ul << 3) | 3), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void A_page_fault_while_a_contributory_fault_is_delivered_is_handled_in_turn()
    {
        using SystemMachine m = new M().Long64();
        m.SetGate64(13, M.Code64, 0x8E, ist: 1);
        m.SetPage(M.StackIst - 0x1000, 0);
        m.Cpu.Deliver(13, 0, false, false);
        Assert.Equal((14, 2ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void A_page_fault_while_a_page_fault_is_delivered_is_a_double_fault()
    {
        using SystemMachine m = new M().Long64();
        m.SetGate64(14, M.Code64, 0x8E, ist: 1);
        m.SetPage(M.StackIst - 0x1000, 0);
        m.Cpu.Deliver(14, 0, false, false);
        Assert.Equal((8, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void A_fault_while_a_double_fault_is_delivered_shuts_down()
    {
        using SystemMachine m = new M().Protected32();
        m.S->IdtrLimit = 0;
        m.Place(a => a.ud2());
        Assert.Equal(ExitReason.Shutdown, m.Cpu.Run().Reason);
        Assert.Equal(M.Code, m.S->Rip);
    }

    [Fact]
    public void Entering_a_debug_handler_switches_general_detect_off()
    {
        using SystemMachine m = new M().Protected32();
        m.S->Dr[7] = 0x2400;
        m.Cpu.ModeChanged();
        m.Run(a => a.mov(eax, dr0));
        Assert.Equal((1, M.Code), (m.HandlerVector, m.Top(0, 4)));
        Assert.Equal((0x2000ul, 0x400ul), (m.S->Dr[6] & 0x2000, m.S->Dr[7]));
        Assert.NotEqual(0ul, m.Top(2, 4) & Rf);
    }

    [Fact]
    public void Accessed_bits_of_handler_and_stack_are_written()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.SetDescriptor(M.Code0, M.Descriptor(0, 0xFFFFF, 0x9A, 12));
        m.SetDescriptor(M.Data0, M.Descriptor(0, 0xFFFFF, 0x92, 12));
        m.Run(a => a.@int(0x80));
        Assert.Equal((0x9B, 0x93), (m.AccessByte(M.Code0), m.AccessByte(M.Data0)));
    }

    /// <summary>Handlers leave the loop by a write to a port.</summary>
    static SystemMachine Stepping(params byte[] code)
    {
        SystemMachine m = new M().Protected32();
        m.Ports.OnWrite = m.Cpu.Kick;
        foreach (uint vector in new uint[] { 1, 0x80 }) m.Write(M.Handlers + vector * 16, 0x80E6, 2);
        m.Place(code);
        m.S->RflagsSystem |= Tf;
        m.Cpu.ModeChanged();
        m.Cpu.Run();
        return m;
    }

    [Fact]
    public void A_single_step_traps_behind_the_instruction()
    {
        using SystemMachine m = Stepping(0xFC);
        Assert.Equal((1, M.Code + 1, 0x4000ul), (m.HandlerVector, m.Top(0, 4), m.S->Dr[6] & 0x4000));
        Assert.Equal(Tf | 2, m.Top(2, 4));
    }

    [Fact]
    public void An_int_under_single_step_runs_its_handler_without_a_trap()
    {
        using SystemMachine m = Stepping(0xCD, 0x80);
        Assert.Equal((0x80, M.Code + 2), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void The_trap_waits_for_the_instruction_behind_a_load_of_the_stack_segment()
    {
        using SystemMachine m = new M().Protected32();
        m.Ports.OnWrite = m.Cpu.Kick;
        m.Write(M.Handlers + 16, 0x80E6, 2);
        m.Place(0x8E, 0xD0, 0xFC);
        m.Cpu.Rax = M.Data0;
        m.S->RflagsSystem |= Tf;
        m.Cpu.ModeChanged();
        m.Cpu.Run();
        Assert.Equal((1, M.Code + 3), (m.HandlerVector, m.Top(0, 4)));
    }
}
