using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>IRET, far RET, JMP and CALL, gates, SYSCALL and SYSENTER. Intel SDM vol. 2.</summary>
public unsafe class SystemTransferTests
{
    const ulong If = Rflags.If, Iopl3 = Rflags.Iopl, Target = M.Code + 0x100;

    // IRET

    [Fact]
    public void Iret_in_real_mode_pops_three_words()
    {
        using SystemMachine m = new M().Real();
        m.PushAll(2, 0xFFFF, 0x1234, 0x5678);
        m.Run(a => a.iret());
        Assert.Equal((0x1234, 0x12340ul, 0x5678ul, 0x1000ul), (m.S->Cs.Selector, m.S->Cs.Base, m.S->Rip, m.Rsp));
        Assert.Equal(0x7FD7ul, m.Cpu.AllFlags);
    }

    [Fact]
    public void Iretd_in_real_mode_takes_an_offset_within_the_limit()
    {
        using SystemMachine m = new M().Real();
        m.PushAll(4, 2, 0x1234, 0x10000);
        m.Run(0x66, 0xCF);
        Assert.Equal(13, m.HandlerVector);
        Assert.Equal(0ul, m.Top(0, 2));
    }

    [Fact]
    public void Iret_to_ring_3_loads_the_stack_and_empties_inner_segments()
    {
        using SystemMachine m = new M().Protected32();
        m.Cpu.LoadSegment(Seg.Fs, M.Data3);
        m.Cpu.LoadSegment(Seg.Gs, M.Conforming);
        m.PushAll(4, M.Data3, M.Stack3, If | Iopl3 | 2, M.Code3, Target);
        m.Run(0xCF);
        Assert.Equal((3, Target, M.Stack3, If | Iopl3 | 2), (m.Cpu.Cpl, m.S->Rip, m.Rsp, m.Cpu.AllFlags));
        Assert.Equal((M.Code3, M.Data3), (m.S->Cs.Selector, m.S->Ss.Selector));
        Assert.Equal((0, 0, M.Data3), (m.S->Ds.Selector, m.S->Ds.Access, m.S->Fs.Selector));
        Assert.Equal(M.Conforming, m.S->Gs.Selector & 0xFFFC);
    }

    [Fact]
    public void Iret_in_ring_3_changes_neither_iopl_nor_the_interrupt_flag_above_it()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        m.PushAll(4, If | Iopl3 | Rflags.Ac | Rflags.Cf | 2, M.Code3, Target);
        m.Run(0xCF);
        Assert.Equal((Target, Rflags.Ac | Rflags.Cf | 2), (m.S->Rip, m.Cpu.AllFlags));
    }

    [Fact]
    public void Iretq_always_pops_the_stack_and_takes_a_null_one_in_inner_rings_only()
    {
        using SystemMachine m = new M().Long64();
        m.PushAll(8, 0, 0x8008, 2, M.Code64, Target);
        m.Run(a => a.iretq());
        Assert.Equal((Target, 0x8008ul, 0), (m.S->Rip, m.Rsp, m.S->Ss.Selector));

        using SystemMachine n = new M().Long64();
        n.PushAll(8, 3, 0x8008, 2, M.Code64User, Target);
        n.Run(a => a.iretq());
        Assert.Equal((13, 0ul), (n.HandlerVector, n.Top(0, 8)));
    }

    [Fact]
    public void Iretq_to_compatibility_mode_keeps_32_bits()
    {
        using SystemMachine m = new M().Long64();
        m.PushAll(8, M.Data3, 0x1_0000_0000 + M.Stack3, 2, M.Code3, Target);
        m.Run(a => a.iretq());
        Assert.Equal((3, false, M.Stack3), (m.Cpu.Cpl, m.Cpu.Is64Bit, m.Rsp));
        m.Run(a => a.@int(0x80));
        Assert.Equal((0x80, true, M.Stack3), (m.HandlerVector, m.Cpu.Is64Bit, m.Top(3, 8)));
    }

    [Fact]
    public void Iretq_to_a_non_canonical_address_faults()
    {
        using SystemMachine m = new M().Long64();
        m.PushAll(8, M.Data0, 0x8008, 2, M.Code64, 0x8000_0000_0000);
        m.Run(a => a.iretq());
        Assert.Equal((13, 0ul, M.Code), (m.HandlerVector, m.Top(0, 8), m.Top(1, 8)));
    }

    [Fact]
    public void A_nested_task_cannot_return_in_long_mode()
    {
        using SystemMachine m = new M().Long64();
        m.S->RflagsSystem |= Rflags.Nt;
        m.Run(a => a.iretq());
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Iret_ends_the_blocking_of_nmis()
    {
        using SystemMachine m = new M().Protected32();
        m.S->NmiBlocked = 1;
        m.PushAll(4, 2, M.Code0, Target);
        m.Run(0xCF);
        Assert.Equal(0, m.S->NmiBlocked);
    }

    public static TheoryData<ushort, int, uint> BadReturnCode() => new()
    {
        { 0, 13, 0 }, { M.Beyond, 13, M.Beyond }, { M.Data0, 13, M.Data0 }, { M.AbsentCode, 11, M.AbsentCode },
        { M.Code3 & 0xFFFC, 13, M.Code3 & 0xFFFC }, { M.Code0 | 3, 13, M.Code0 }, { 0x104, 13, 0x104 },
    };

    [Theory, MemberData(nameof(BadReturnCode))]
    public void A_return_to_a_bad_code_segment_faults_with_its_selector(ushort selector, int vector, uint error)
    {
        foreach (byte opcode in new byte[] { 0xCF, 0xCB })
        {
            using SystemMachine m = new M().Protected32();
            m.PushAll(4, M.Data3, M.Stack3);
            if (opcode == 0xCF) m.PushAll(4, 2);
            m.PushAll(4, selector, Target);
            ulong before = m.Rsp;
            m.Run(opcode);
            Assert.Equal((vector, (ulong)error, M.Code, before - 16),
                (m.HandlerVector, m.Top(0, 4), m.Top(1, 4), m.Rsp));
        }
    }

    [Theory]
    [InlineData(0, 13, 0)]
    [InlineData(M.Beyond | 3, 13, M.Beyond)]
    [InlineData(M.Data0 | 3, 13, M.Data0)]
    [InlineData(M.Data3 & 0xFFFC, 13, M.Data3 & 0xFFFC)]
    [InlineData(M.Code3, 13, M.Code3 & 0xFFFC)]
    public void A_return_to_a_bad_outer_stack_faults_with_its_selector(int selector, int vector, int error)
    {
        using SystemMachine m = new M().Protected32();
        m.PushAll(4, (ulong)selector, M.Stack3, 2, M.Code3, Target);
        m.Run(0xCF);
        Assert.Equal((vector, (ulong)error, M.Code, 0), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4), m.Cpu.Cpl));
    }

    [Fact]
    public void A_return_to_an_absent_outer_stack_is_a_stack_fault()
    {
        using SystemMachine m = new M().Protected32();
        m.SetDescriptor(M.Data3, M.Descriptor(0, 0xFFFFF, 0x72, 12));
        m.PushAll(4, M.Data3, M.Stack3, 2, M.Code3, Target);
        m.Run(0xCF);
        Assert.Equal((12, (ulong)M.Data3 & 0xFFFC), (m.HandlerVector, m.Top(0, 4)));
    }

    // Far RET

    [Fact]
    public void Retf_to_an_outer_ring_drops_parameters_from_both_stacks()
    {
        using SystemMachine m = new M().Protected32();
        m.PushAll(4, M.Data3, M.Stack3, 0xAAAA, 0xBBBB, M.Code3, Target);
        m.Run(0xCA, 8, 0);
        Assert.Equal((3, Target, M.Stack3 + 8), (m.Cpu.Cpl, m.S->Rip, m.Rsp));
    }

    [Fact]
    public void Retf_in_real_mode_pops_and_drops()
    {
        using SystemMachine m = new M().Real();
        m.PushAll(2, 7, 7, 0x2000, 0x30);
        m.Run(0xCA, 4, 0);
        Assert.Equal((0x2000, 0x30ul, 0x1000ul), (m.S->Cs.Selector, m.S->Rip, m.Rsp));
    }

    [Fact]
    public void Retfq_returns_to_64_bit_code_without_a_stack_switch()
    {
        using SystemMachine m = new M().Long64();
        m.PushAll(8, M.Code64, Target);
        m.Run(0x48, 0xCB);
        Assert.Equal((Target, M.Stack0 - 0x100), (m.S->Rip, m.Rsp));
    }

    // Far JMP and CALL

    [Fact]
    public void Jmp_far_in_real_mode_sets_base_from_selector()
    {
        using SystemMachine m = new M().Real();
        m.Run(0xEA, 0x34, 0x12, 0x00, 0xF0);
        Assert.Equal((0xF000, 0xF0000ul, 0x1234ul), (m.S->Cs.Selector, m.S->Cs.Base, m.S->Rip));
    }

    [Fact]
    public void Call_far_in_real_mode_pushes_selector_and_offset()
    {
        using SystemMachine m = new M().Real();
        m.Run(0x9A, 0x34, 0x12, 0x00, 0xF0);
        Assert.Equal((0xF000, 0x1234ul), (m.S->Cs.Selector, m.S->Rip));
        Assert.Equal((5ul, M.Code >> 4), (m.Top(0, 2), m.Top(1, 2)));
    }

    static byte[] Far(byte opcode, ushort selector, uint offset = (uint)Target) =>
        [opcode, (byte)offset, (byte)(offset >> 8), (byte)(offset >> 16), (byte)(offset >> 24), (byte)selector,
            (byte)(selector >> 8)];

    [Theory]
    [InlineData(M.Code0, 0, M.Code0)]
    [InlineData(M.Code0 | 3, 13, M.Code0)]                                          // RPL above CPL
    [InlineData(M.Conforming | 3, 0, M.Conforming)]
    [InlineData(M.Code3, 13, M.Code3 & 0xFFFC)]
    [InlineData(M.Data0, 13, M.Data0)]
    [InlineData(M.AbsentCode, 11, M.AbsentCode)]
    [InlineData(0, 13, 0)]
    [InlineData(M.Beyond, 13, M.Beyond)]
    [InlineData(M.LdtSelector, 13, M.LdtSelector)]
    public void Jmp_and_call_far_check_the_code_segment(int selector, int vector, int result)
    {
        foreach (byte opcode in new byte[] { 0xEA, 0x9A })
        {
            using SystemMachine m = new M().Protected32();
            m.Run(Far(opcode, (ushort)selector));
            if (vector == 0)
            {
                Assert.Equal((Target, result, 0), (m.S->Rip, m.S->Cs.Selector, m.Cpu.Cpl));
                if (opcode == 0x9A) Assert.Equal((M.Code + 7, (ulong)M.Code0), (m.Top(0, 4), m.Top(1, 4)));
            }
            else Assert.Equal((vector, (ulong)result, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
        }
    }

    [Fact]
    public void An_offset_beyond_the_code_segment_is_a_protection_fault()
    {
        using SystemMachine m = new M().Protected32();
        m.Run(Far(0xEA, M.Code16, 0x10000));
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
    }

    [Fact]
    public void A_far_jump_between_32_and_16_bit_code_changes_the_mode()
    {
        using SystemMachine m = new M().Protected32();
        m.Run(Far(0xEA, M.Code16, 0x200));
        Assert.Equal((0x10000ul, 0x200ul), (m.S->Cs.Base, m.S->Rip));
        m.Run(0x66, 0xEA, 0x00, 0x01, 0x01, 0x00, 0x08, 0x00);
        Assert.Equal((0ul, M.Code + 0x100), (m.S->Cs.Base, m.S->Rip));
    }

    [Fact]
    public void Jmp_through_memory_reaches_64_bit_offsets()
    {
        using SystemMachine m = new M("Skylake-Client").Long64();
        m.Write(M.Data, 0xFFFF_FF80_0001_2000, 8);
        m.Write(M.Data + 8, M.Code64, 2);
        m.Cpu.Rbx = M.Data;
        m.Run(0x48, 0xFF, 0x2B);                                                    // jmp far [rbx], REX.W
        Assert.Equal((M.Code64, 0xFFFF_FF80_0001_2000), (m.S->Cs.Selector, m.S->Rip));
    }

    /// <summary>AMD APM vol. 3, "JMP (Far)": there is no m16:64.</summary>
    [Fact]
    public void On_AMDs_processors_far_pointers_in_memory_stay_32_bits_wide()
    {
        using SystemMachine m = new M("EPYC").Long64();
        m.Write(M.Data, Target | (ulong)M.Code64 << 32, 8);
        m.Cpu.Rbx = M.Data;
        m.Run(0x48, 0xFF, 0x2B);                                                    // jmp far [rbx], REX.W
        Assert.Equal((M.Code64, Target), (m.S->Cs.Selector, m.S->Rip));
    }

    [Fact]
    public void A_far_jump_enters_compatibility_mode_and_returns()
    {
        using SystemMachine m = new M().Long64();
        m.Write(M.Data, Target | (ulong)M.Code0 << 32, 8);
        m.Cpu.Rbx = M.Data;
        m.Run(0xFF, 0x2B);
        Assert.Equal((M.Code0, Target, false), (m.S->Cs.Selector, m.S->Rip, m.Cpu.Is64Bit));
        m.Run(Far(0xEA, M.Code64, (uint)M.Code));
        Assert.Equal((M.Code64, M.Code, true), (m.S->Cs.Selector, m.S->Rip, m.Cpu.Is64Bit));
    }

    // Call gates

    [Fact]
    public void A_call_gate_switches_stacks_and_copies_parameters()
    {
        using SystemMachine m = new M().Protected32();
        m.SetDescriptor(M.Gate, M.GateTo(M.Code0, (uint)Target, 0xEC, 3));
        m.Ring3();
        m.PushAll(4, 0x111, 0x222, 0x333);
        m.Run(Far(0x9A, M.Gate | 3, 0xDEAD));
        Assert.Equal((0, Target, M.Code0, M.Data0), (m.Cpu.Cpl, m.S->Rip, m.S->Cs.Selector, m.S->Ss.Selector));
        Assert.Equal(M.Stack0 - 28, m.Rsp);
        ulong[] frame = [M.Code + 7, M.Code3, 0x333, 0x222, 0x111, M.Stack3 - 12, M.Data3];
        for (int i = 0; i < frame.Length; i++) Assert.Equal(frame[i], m.Top(i, 4));

        m.Run(0xCA, 12, 0);
        Assert.Equal((3, M.Code + 7, M.Stack3), (m.Cpu.Cpl, m.S->Rip, m.Rsp));
    }

    [Fact]
    public void A_16_bit_call_gate_pushes_words()
    {
        using SystemMachine m = new M().Protected32();
        m.SetDescriptor(M.Gate, M.GateTo(M.Code0, 0x6000, 0xE4, 1));
        m.Ring3();
        m.PushAll(2, 0x4444);
        m.Run(Far(0x9A, M.Gate));
        Assert.Equal((0x6000ul, M.Stack0 - 10), (m.S->Rip, m.Rsp));
        ulong[] frame = [(M.Code + 7) & 0xFFFF, M.Code3, 0x4444, (M.Stack3 - 2) & 0xFFFF, M.Data3];
        for (int i = 0; i < frame.Length; i++) Assert.Equal(frame[i], m.Top(i, 2));
    }

    [Fact]
    public void A_64_bit_call_gate_switches_to_the_tasks_stack()
    {
        using SystemMachine m = new M().Long64();
        m.SetDescriptor(M.Gate, M.GateTo(M.Code64, (uint)Target, 0xEC), 0xFFFF_FF80, wide: true);
        m.Ring3();
        m.Write(M.Data, (ulong)M.Gate << 32, 8);
        m.Cpu.Rbx = M.Data;
        m.Run(0xFF, 0x1B);                                                          // call far [rbx]
        Assert.Equal((0, 0xFFFF_FF80_0000_0000 | Target, 0, M.Stack0 - 32),
            (m.Cpu.Cpl, m.S->Rip, m.S->Ss.Selector, m.Rsp));
        ulong[] frame = [M.Code + 2, M.Code64User, M.Stack3, M.Data3];
        for (int i = 0; i < frame.Length; i++) Assert.Equal(frame[i], m.Top(i, 8));
        m.Run(0x48, 0xCB);
        Assert.Equal((3, M.Code + 2, M.Stack3), (m.Cpu.Cpl, m.S->Rip, m.Rsp));
    }

    [Theory]
    [InlineData(8, 0x48, 0xFF, 0x1B)]                                               // call far [rbx]
    [InlineData(8, 0x66, 0x48, 0xFF, 0x1B)]
    [InlineData(4, 0xFF, 0x1B)]
    public void AMDs_far_calls_with_REX_W_read_32_bits_and_push_64(int size, params int[] code)
    {
        using SystemMachine m = new M().Long64();
        m.Write(M.Data, (ulong)M.Code64 << 32 | (uint)Target, 8);
        m.Cpu.Rbx = M.Data;
        ulong before = m.Rsp;
        m.Run([.. code.Select(b => (byte)b)]);
        Assert.Equal(((ulong)Target, M.Code64, before - 2 * (uint)size), (m.S->Rip, m.S->Cs.Selector, m.Rsp));
        Assert.Equal((M.Code + (uint)code.Length, (ulong)M.Code64), (m.Top(0, size), m.Top(1, size)));
    }

    [Theory]
    [InlineData(M.Code0, 0x8C, 13, M.Gate)]                                         // DPL below CPL
    [InlineData(M.Code0, 0x6C, 11, M.Gate)]                                         // absent gate
    [InlineData(0, 0xEC, 13, 0)]
    [InlineData(M.Data0, 0xEC, 13, M.Data0)]
    [InlineData(M.AbsentCode, 0xEC, 11, M.AbsentCode)]
    public void A_bad_call_gate_faults(int target, int access, int vector, int error)
    {
        using SystemMachine m = new M().Protected32();
        m.SetDescriptor(M.Gate, M.GateTo((ushort)target, (uint)Target, access));
        m.Ring3();
        m.Run(Far(0x9A, M.Gate | 3));
        Assert.Equal((vector, (ulong)error, M.Code), (m.HandlerVector, m.Top(0, 4), m.Top(1, 4)));
    }

    [Fact]
    public void Jmp_through_a_gate_cannot_enter_an_inner_ring_but_conforming_code()
    {
        using SystemMachine m = new M().Protected32();
        m.SetDescriptor(M.Gate, M.GateTo(M.Code0, (uint)Target, 0xEC));
        m.SetDescriptor(M.Gate2, M.GateTo(M.Conforming, (uint)Target, 0xEC));
        m.Ring3();
        m.Run(Far(0xEA, M.Gate2));
        Assert.Equal((Target, M.Conforming | 3, 3), (m.S->Rip, (int)m.S->Cs.Selector, m.Cpu.Cpl));
        m.Run(Far(0xEA, M.Gate));
        Assert.Equal((13, (ulong)M.Code0), (m.HandlerVector, m.Top(0, 4)));
    }

    // SYSCALL, SYSENTER

    [Fact]
    public void Syscall_and_sysret_go_to_ring_0_and_back()
    {
        using SystemMachine m = new M().Long64().Ring3();
        m.S->Star = (ulong)M.Code64 << 32 | (ulong)0x28 << 48;
        m.S->LStar = 0xFFFF_FF80_0001_4000;
        m.S->FMask = If | Rflags.Tf | Rflags.Df;
        m.S->RflagsSystem |= If | Rflags.Df;
        m.Cpu.ArithmeticFlags = Rflags.Cf;
        m.Run(a => a.syscall());
        Assert.Equal((0, 0xFFFF_FF80_0001_4000, M.Code + 2), (m.Cpu.Cpl, m.S->Rip, m.Cpu.Rcx));
        Assert.Equal(If | Rflags.Df | Rflags.Cf | 2, m.S->Gpr[11]);
        Assert.Equal(Rflags.Cf | 2, m.Cpu.AllFlags);
        Assert.Equal((M.Code64, M.Code64 + 8), (m.S->Cs.Selector, m.S->Ss.Selector));
        Assert.Equal(M.Stack3, m.Rsp);
        m.Write(0x14000, 0x070F48, 4);                                              // sysretq
        m.Step();
        Assert.Equal((3, M.Code + 2, If | Rflags.Df | Rflags.Cf | 2), (m.Cpu.Cpl, m.S->Rip, m.Cpu.AllFlags));
        Assert.Equal((0x3B, 0x33), (m.S->Cs.Selector, m.S->Ss.Selector));
        Assert.True(m.Cpu.Is64Bit);
    }

    [Fact]
    public void Sysretl_returns_to_compatibility_mode()
    {
        using SystemMachine m = new M().Long64();
        m.S->Star = (ulong)0x28 << 48;
        m.Cpu.Rcx = 0xFFFF_FFFF_0000_0000 | Target;
        m.S->Gpr[11] = If | 2;
        m.Run(a => a.sysret());
        Assert.Equal((3, Target, 0x2B, false), (m.Cpu.Cpl, m.S->Rip, (int)m.S->Cs.Selector, m.Cpu.Is64Bit));
    }

    [Fact]
    public void Sysretq_to_a_non_canonical_address_faults_in_ring_0()
    {
        using SystemMachine m = new M().Long64();
        m.Cpu.Rcx = 0x8000_0000_0000;
        m.Run(0x48, 0x0F, 0x07);
        Assert.Equal((13, 0ul, 0), (m.HandlerVector, m.Top(0, 8), m.Cpu.Cpl));
        Assert.Equal((ulong)M.Code64, m.Top(2, 8));
    }

    [Fact]
    public void Syscall_is_undefined_until_it_is_switched_on()
    {
        using SystemMachine m = new M().Long64();
        m.S->Efer &= ~Efer.Sce;
        m.Run(a => a.syscall());
        Assert.Equal(6, m.HandlerVector);
    }

    [Fact]
    public void Sysret_in_ring_3_is_a_protection_fault()
    {
        using SystemMachine m = new M().Long64().Ring3();
        m.Run(0x48, 0x0F, 0x07);
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 8)));
    }

    [Fact]
    public void Sysenter_and_sysexit_use_flat_segments_from_their_msr()
    {
        using SystemMachine m = new M().Protected32().Ring3();
        (m.S->SysenterCs, m.S->SysenterEsp, m.S->SysenterEip) = (0x108, M.Stack0, Target);
        m.S->RflagsSystem |= If;
        m.Run(a => a.sysenter());
        Assert.Equal((0, Target, M.Stack0, 2ul), (m.Cpu.Cpl, m.S->Rip, m.Rsp, m.Cpu.AllFlags));
        Assert.Equal((0x108, 0x110), (m.S->Cs.Selector, m.S->Ss.Selector));
        (m.Cpu.Rdx, m.Cpu.Rcx) = (M.Code, M.Stack3);
        m.Run(a => a.sysexit());
        Assert.Equal((3, M.Code, M.Stack3, 0x11B, 0x123),
            (m.Cpu.Cpl, m.S->Rip, m.Rsp, (int)m.S->Cs.Selector, (int)m.S->Ss.Selector));
    }

    [Fact]
    public void Sysenter_without_a_code_segment_is_a_protection_fault()
    {
        using SystemMachine m = new M().Protected32();
        m.Run(a => a.sysenter());
        Assert.Equal((13, 0ul), (m.HandlerVector, m.Top(0, 4)));
    }
}
