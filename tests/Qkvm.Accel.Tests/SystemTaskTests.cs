using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>Hardware tasks (Intel SDM vol. 3, chapter 7) and virtual-8086 mode (chapter 20).</summary>
public unsafe class SystemTaskTests
{
    const ulong Target = M.Code + 0x100, Nt = Rflags.Nt, If = Rflags.If, Iopl3 = Rflags.Iopl;

    static byte[] Far(byte opcode, ushort selector) => [opcode, 0, 0, 0, 0, (byte)selector, (byte)(selector >> 8)];

    static SystemMachine WithTask(ushort code = M.Code3, ushort data = M.Data3, uint flags = 2)
    {
        var m = new SystemMachine().Protected32();
        m.Write(M.OtherTss + 0x20, Target, 4);
        m.Write(M.OtherTss + 0x24, flags, 4);
        for (uint i = 0; i < 8; i++) m.Write(M.OtherTss + 0x28 + i * 4, 0x11111111 * i, 4);
        m.Write(M.OtherTss + 0x38, M.Stack3, 4);
        ushort[] segments = [data, code, data, data, data, 0];
        for (uint i = 0; i < 6; i++) m.Write(M.OtherTss + 0x48 + i * 4, segments[i], 2);
        m.Write(M.OtherTss + 0x60, 0, 2);
        return m;
    }

    [Fact]
    public void A_jump_to_a_task_saves_one_and_loads_the_other()
    {
        using SystemMachine m = WithTask();
        (m.Cpu.Rax, m.Cpu.Rdi) = (0xAAAA, 0xDDDD);
        m.Cpu.ArithmeticFlags = Rflags.Cf;
        m.Run(Far(0xEA, M.OtherTssSelector));
        Assert.Equal((3, Target, M.Stack3, M.OtherTssSelector), (m.Cpu.Cpl, m.S->Rip, m.Rsp, m.S->Tr.Selector));
        Assert.Equal((0x11111111ul, 0x77777777ul), (m.Cpu.Rcx, m.Cpu.Rdi));
        Assert.Equal((M.Code3, M.Data3, 0, 0),
            (m.S->Cs.Selector, m.S->Ds.Selector, m.S->Gs.Selector, m.S->Ldtr.Selector));
        Assert.Equal((M.Code + 7, Rflags.Cf | 2), (m.Read(M.Tss + 0x20, 4), m.Read(M.Tss + 0x24, 4)));
        Assert.Equal((0xAAAAul, 0xDDDDul, (ulong)M.Code0),
            (m.Read(M.Tss + 0x28, 4), m.Read(M.Tss + 0x44, 4), m.Read(M.Tss + 0x4C, 2)));
        Assert.Equal((0x89, 0x8B), (m.AccessByte(M.TssSelector), m.AccessByte(M.OtherTssSelector)));
        Assert.NotEqual(0ul, m.S->Cr0 & Cr0.Ts);
        Assert.Equal(2ul, m.Cpu.AllFlags);
    }

    [Fact]
    public void A_call_nests_and_iret_returns()
    {
        using SystemMachine m = WithTask(M.Code0, M.Data0);
        ulong stack = m.Rsp;
        m.Run(Far(0x9A, M.OtherTssSelector));
        Assert.Equal((Target, Nt | 2, (ulong)M.TssSelector), (m.S->Rip, m.Cpu.AllFlags, m.Read(M.OtherTss, 2)));
        Assert.Equal((0x8B, 0x8B), (m.AccessByte(M.TssSelector), m.AccessByte(M.OtherTssSelector)));
        m.Run(0xCF);
        Assert.Equal((M.Code + 7, stack, M.TssSelector, 2ul), (m.S->Rip, m.Rsp, m.S->Tr.Selector, m.Cpu.AllFlags));
        Assert.Equal((0x8B, 0x89), (m.AccessByte(M.TssSelector), m.AccessByte(M.OtherTssSelector)));
        Assert.Equal((Target + 1, 0ul), (m.Read(M.OtherTss + 0x20, 4), m.Read(M.OtherTss + 0x24, 4) & Nt));
    }

    [Fact]
    public void An_exception_through_a_task_gate_pushes_its_error_code_in_the_new_task()
    {
        using SystemMachine m = WithTask();
        m.SetGate32(13, M.OtherTssSelector, 0xE5);
        m.Cpu.Deliver(13, 0x1234, false, false);
        Assert.Equal((Target, M.Stack3 - 4, 0x1234ul, 3), (m.S->Rip, m.Rsp, m.Top(0, 4), m.Cpu.Cpl));
        Assert.Equal(M.Code, m.Read(M.Tss + 0x20, 4));
    }

    [Fact]
    public void A_task_gate_in_the_gdt_leads_to_the_task()
    {
        using SystemMachine m = WithTask(M.Code0, M.Data0);
        m.SetDescriptor(M.Gate, M.GateTo(M.OtherTssSelector, 0, 0xE5));
        m.Ring3();
        m.Run(Far(0x9A, M.Gate | 3));
        Assert.Equal((Target, 0), (m.S->Rip, m.Cpu.Cpl));
    }

    [Fact]
    public void A_16_bit_task_state_has_words()
    {
        using SystemMachine m = new SystemMachine().Protected32();
        m.SetDescriptor(M.Data16, M.Descriptor(0, 0xFFFF, 0x92, 0));
        m.Write(M.OtherTss + 0x0E, 0x123, 2);
        m.Write(M.OtherTss + 0x10, 2, 2);
        for (uint i = 0; i < 8; i++) m.Write(M.OtherTss + 0x12 + i * 2, 0x1111 * i, 2);
        ushort[] segments = [M.Data16, M.Code16, M.Data16, 0];
        for (uint i = 0; i < 4; i++) m.Write(M.OtherTss + 0x22 + i * 2, segments[i], 2);
        m.Write(M.OtherTss + 0x2A, M.LdtSelector, 2);
        m.Run(Far(0xEA, M.Tss16Selector));
        Assert.Equal((0x123ul, 0x10000ul, 0x1111ul, 0x4444ul), (m.S->Rip, m.S->Cs.Base, m.Cpu.Rcx, m.Rsp));
        Assert.Equal((M.LdtSelector, 0x83), (m.S->Ldtr.Selector, m.AccessByte(M.Tss16Selector)));
    }

    [Theory]
    [InlineData(M.TssSelector, 13, M.TssSelector)]                                  // busy
    [InlineData(M.LdtSelector, 13, M.LdtSelector)]
    public void A_switch_to_what_is_no_available_task_faults(int selector, int vector, int error)
    {
        using SystemMachine m = WithTask();
        m.Run(Far(0xEA, (ushort)selector));
        Assert.Equal((vector, (ulong)error, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
    }

    [Fact]
    public void A_short_task_state_is_invalid_and_nothing_has_changed()
    {
        using SystemMachine m = WithTask();
        m.SetDescriptor(M.OtherTssSelector, M.Descriptor((uint)M.OtherTss, 0x66, 0x89, 0));
        m.Run(Far(0xEA, M.OtherTssSelector));
        Assert.Equal((10, (ulong)M.OtherTssSelector, M.TssSelector), (m.HandlerVector, m.Top(0, 4), m.S->Tr.Selector));
    }

    [Theory]
    [InlineData(0x4C, M.Beyond, 10)]
    [InlineData(0x4C, M.AbsentCode, 11)]
    [InlineData(0x50, M.ReadOnly, 10)]
    [InlineData(0x50, M.AbsentData, 12)]
    [InlineData(0x54, M.ExecuteOnly, 10)]
    [InlineData(0x54, M.AbsentData, 11)]
    [InlineData(0x60, M.Data0, 10)]
    public void Bad_selectors_of_a_task_fault_in_that_task(int field, int selector, int vector)
    {
        using SystemMachine m = WithTask(M.Code0, M.Data0);
        m.Write(M.OtherTss + (uint)field, (ulong)selector, 2);
        // The fault must be visible although the new task may have no usable stack: a task gate leads back.
        m.Write(M.Tss + 0x20, 0, 4);
        m.SetDescriptor(M.Gate, M.Descriptor(0x3C00, 0x67, 0x89, 0));
        for (uint i = 0; i < 0x68; i += 4) m.Write(0x3C00 + i, 0, 4);
        m.Write(0x3C20, M.Handlers + (uint)vector * 16, 4);
        m.Write(0x3C24, 2, 4);
        m.Write(0x3C38, 0x8800, 4);
        m.Write(0x3C4C, M.Code0, 2);
        m.Write(0x3C50, M.Data0, 2);
        m.SetGate32(vector, M.Gate, 0xE5);
        m.Run(Far(0xEA, M.OtherTssSelector));
        Assert.Equal((vector, (ulong)selector & 0xFFFC), (m.HandlerVector, m.Top(0, 4)));
        Assert.Equal(Target, m.Read(M.OtherTss + 0x20, 4));
        Assert.Equal(M.OtherTssSelector, m.Read(0x3C00, 2));
    }

    [Fact]
    public void The_trap_bit_raises_a_debug_exception_in_the_new_task()
    {
        using SystemMachine m = WithTask(M.Code0, M.Data0);
        m.Write(M.OtherTss + 0x64, 1, 1);
        m.Run(Far(0xEA, M.OtherTssSelector));
        Assert.Equal((1, Target, 0x8000ul), (m.HandlerVector, m.Top(0, 4), m.S->Dr[6] & 0x8000));
    }

    [Fact]
    public void A_task_can_enter_virtual_8086_mode()
    {
        using SystemMachine m = WithTask(flags: (uint)(Rflags.Vm | Iopl3 | 2));
        m.Write(M.OtherTss + 0x20, 0x40, 4);
        for (uint i = 0; i < 6; i++) m.Write(M.OtherTss + 0x48 + i * 4, 0x1000 + i, 2);
        m.Run(Far(0xEA, M.OtherTssSelector));
        Assert.Equal((3, 0x40ul, true), (m.Cpu.Cpl, m.S->Rip, m.Cpu.IsVirtual8086));
        Assert.Equal((0x10010ul, 0x10050ul), (m.S->Cs.Base, m.S->Gs.Base));
    }

    // Virtual-8086 mode

    [Fact]
    public void Iretd_in_ring_0_enters_virtual_8086_mode()
    {
        using SystemMachine m = new SystemMachine().Protected32();
        m.PushAll(4, 5, 4, 3, 2, 0x1800, 0x1000, Rflags.Vm | Iopl3 | If | 2, 0x1000, 0x20);
        m.Run(0xCF);
        Assert.Equal((3, true, 0x20ul, 0x1000ul), (m.Cpu.Cpl, m.Cpu.IsVirtual8086, m.S->Rip, m.Rsp));
        Assert.Equal((0x10000ul, 0x18000ul), (m.S->Cs.Base, m.S->Ss.Base));
        Assert.Equal((2, 3, 4, 5), (m.S->Es.Selector, m.S->Ds.Selector, m.S->Fs.Selector, m.S->Gs.Selector));
    }

    [Fact]
    public void An_exception_leaves_virtual_8086_mode_with_all_segments_on_the_stack()
    {
        using SystemMachine m = new SystemMachine().Virtual8086();
        m.Run(0xF4);                                                                // hlt
        Assert.Equal((13, 0, false), (m.HandlerVector, m.Cpu.Cpl, m.Cpu.IsVirtual8086));
        ulong[] frame = [0, 0, 0x1000, Rflags.Vm | Iopl3 | If | Rflags.Rf | 2, 0x1000, 0x1800, 0x2000, 0x2000, 0x2000,
            0x2000];
        for (int i = 0; i < frame.Length; i++) Assert.Equal(frame[i], m.Top(i, 4));
        Assert.Equal((0, 0, 0, 0), (m.S->Ds.Selector, m.S->Es.Access, m.S->Fs.Selector, m.S->Gs.Selector));
        m.Rsp += 4;
        m.Run(0xCF);
        Assert.Equal((true, 0ul, 0x2000), (m.Cpu.IsVirtual8086, m.S->Rip, m.S->Gs.Selector));
    }

    [Fact]
    public void A_handler_of_virtual_8086_mode_runs_in_ring_0_only()
    {
        using SystemMachine m = new SystemMachine().Virtual8086();
        m.SetGate32(0x30, M.Code1, 0xEE);
        m.Run(0xCD, 0x30);
        Assert.Equal((13, (ulong)M.Code1 & 0xFFFC), (m.HandlerVector, m.Top(0, 4)));
    }

    [Theory]
    [InlineData(0, false, 13)]
    [InlineData(3, false, 0x21)]
    [InlineData(0, true, 13)]                                                       // VME, trapped by the bitmap
    public void Int_in_virtual_8086_mode_is_up_to_iopl(int iopl, bool vme, int expected)
    {
        using SystemMachine m = new SystemMachine().Virtual8086(iopl);
        if (vme) PrepareVme(m, trapped: true);
        m.Run(0xCD, 0x21);
        Assert.Equal(expected, m.HandlerVector);
    }

    [Fact]
    public void Int3_in_virtual_8086_mode_ignores_iopl()
    {
        using SystemMachine m = new SystemMachine().Virtual8086(0);
        m.Run(0xCC);
        Assert.Equal(3, m.HandlerVector);
    }

    static void PrepareVme(SystemMachine m, bool trapped)
    {
        m.S->Cr4 |= Cr4.Vme | Cr4.Pvi;
        m.Write(M.Tss + 0x66, 0x200, 2);
        for (uint i = 0; i < 32; i++) m.Write(M.Tss + 0x1E0 + i, trapped ? 0xFFu : 0, 1);
        m.Cpu.ModeChanged();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public void With_vme_int_goes_to_the_programs_own_table(int iopl)
    {
        using SystemMachine m = new SystemMachine().Virtual8086(iopl);
        PrepareVme(m, trapped: false);
        m.S->RflagsSystem |= Rflags.Vif;
        m.Run(0xCD, 0x21);
        Assert.Equal((true, 0xF00, 0x210ul, 0xFFAul), (m.Cpu.IsVirtual8086, m.S->Cs.Selector, m.S->Rip, m.Rsp));
        Assert.Equal((2ul, 0x1000ul, If | Iopl3 | 2), (m.Top(0, 2), m.Top(1, 2), m.Top(2, 2)));
        Assert.Equal(iopl == 3 ? Rflags.Vif : If, m.Cpu.AllFlags & (If | Rflags.Vif));
        m.Run(0xCF);
        Assert.Equal((2ul, 0x1000), (m.S->Rip, m.S->Cs.Selector));
        Assert.Equal(If | Rflags.Vif, m.Cpu.AllFlags & (If | Rflags.Vif));
    }

    [Fact]
    public void With_vme_a_pending_virtual_interrupt_traps_sti_popf_and_iret()
    {
        foreach (byte[] code in new byte[][] { [0xFB], [0x9D], [0xCF] })
        {
            using SystemMachine m = new SystemMachine().Virtual8086(0);
            PrepareVme(m, trapped: false);
            m.S->RflagsSystem |= Rflags.Vip;
            m.PushAll(2, If | 2, 0x1000, If | 2);
            if (code[0] == 0xCF) m.PushAll(2, 0x1000, 0);
            m.Run(code);
            Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
        }
    }

    [Fact]
    public void With_vme_cli_sti_pushf_and_popf_work_on_the_virtual_flag()
    {
        using SystemMachine m = new SystemMachine().Virtual8086(0);
        PrepareVme(m, trapped: false);
        m.Run(0xFB);
        Assert.Equal(If | Rflags.Vif, m.Cpu.AllFlags & (If | Rflags.Vif));
        m.Run(0x9C);
        Assert.Equal(If | Iopl3 | 2, m.Top(0, 2));
        m.Run(0xFA);
        Assert.Equal(If, m.Cpu.AllFlags & (If | Rflags.Vif));
        m.Run(0x9D);
        Assert.Equal((If | Rflags.Vif, 0ul), (m.Cpu.AllFlags & (If | Rflags.Vif), m.Cpu.AllFlags & Iopl3));
    }

    [Fact]
    public void Segment_loads_in_virtual_8086_mode_are_shifts()
    {
        using SystemMachine m = new SystemMachine().Virtual8086();
        m.Cpu.Rax = 0x1234;
        m.Run(a => a.mov(ds, ax));
        Assert.Equal((0x12340ul, 0xFFFFu), (m.S->Ds.Base, m.S->Ds.Limit));
    }
}
