using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Memory;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>What random instructions do not reach: faults, branches, stacks of other sizes, locks over page
/// ends.</summary>
public sealed unsafe class IntegerDirectedTests : IDisposable
{
    const ulong Stack = 0x203000, Data = 0x210000;

    readonly GuestMachine _machine = new();
    ulong _code = 0x10000;

    Cpu Cpu => _machine.Cpu;
    CpuState* S => _machine.S;
    byte* Ram => _machine.Ram.Pointer;

    public void Dispose() => _machine.Dispose();

    [Theory]
    [InlineData(1UL, 5UL, 1UL)]                                     // quotient needs 65 bits
    [InlineData(0UL, 5UL, 0UL)]
    [InlineData(7UL, 5UL, 7UL)]                                     // high half equals the divisor
    public void An_unsigned_division_that_does_not_fit_faults_and_changes_nothing(ulong high, ulong low, ulong divisor)
    {
        _machine.Flat(64);
        (Cpu.Rdx, Cpu.Rax, Cpu.Rbx) = (high, low, divisor);
        AssertFault(Vector.DivideError, 64, a => a.div(rbx));
        Assert.Equal((high, low), (Cpu.Rdx, Cpu.Rax));
    }

    [Theory]
    [InlineData(-1L, long.MinValue, -1L)]                           // -2^63 / -1
    [InlineData(0L, 1L, 0L)]
    [InlineData(0L, long.MinValue, 1L)]                             // 2^63 / 1
    [InlineData(1L, 0L, 2L)]                                        // 2^64 / 2
    public void A_signed_division_that_does_not_fit_faults(long high, long low, long divisor)
    {
        _machine.Flat(64);
        (Cpu.Rdx, Cpu.Rax, Cpu.Rbx) = ((ulong)high, (ulong)low, (ulong)divisor);
        AssertFault(Vector.DivideError, 64, a => a.idiv(rbx));
    }

    [Fact]
    public void The_most_negative_quotient_fits()
    {
        _machine.Flat(64);
        (Cpu.Rdx, Cpu.Rax, Cpu.Rbx) = (unchecked((ulong)-1L), 0UL, 2UL);     // -2^64 / 2 = -2^63
        Step(64, a => a.idiv(rbx));
        Assert.Equal((1UL << 63, 0UL), (Cpu.Rax, Cpu.Rdx));
        (Cpu.Rax, Cpu.Rbx) = (0xFF80, 1);                           // AX = -128
        Step(64, a => a.idiv(bl));
        Assert.Equal(0x0080UL, Cpu.Rax);
    }

    [Fact]
    public void A_sixteen_bit_stack_wraps_and_keeps_the_upper_half_of_esp()
    {
        Flat16();
        S->Ss.Base = 0x200000;
        (Cpu.Rsp, Cpu.Rax) = (0x12340002, 0xAABBCCDD);
        Step(16, a => a.push(ax));
        Assert.Equal((0x12340000UL, 0xCCDD), (Cpu.Rsp, *(ushort*)(Ram + 0x200000)));
        Step(16, a => a.push(ax));
        Assert.Equal((0x1234FFFEUL, 0xCCDD), (Cpu.Rsp, *(ushort*)(Ram + 0x20FFFE)));
        Step(16, a => a.pop(bx));
        Assert.Equal((0x12340000UL, 0xCCDDUL), (Cpu.Rsp, Cpu.Rbx));
    }

    [Fact]
    public void A_push_that_wraps_within_itself_faults_with_stack_fault()
    {
        Flat16();
        Cpu.Rsp = 1;
        AssertFault(Vector.StackFault, 16, a => a.push(ax));
        Assert.Equal(1UL, Cpu.Rsp);
    }

    [Fact]
    public void Pushing_the_stack_pointer_pushes_what_it_was()
    {
        _machine.Flat(32);
        Cpu.Rsp = Stack;
        Step(32, a => a.push(esp));
        Assert.Equal(((uint)Stack, Stack - 4), (*(uint*)(Ram + Stack - 4), Cpu.Rsp));
        Step(32, a => a.pop(esp));
        Assert.Equal(Stack, Cpu.Rsp);
    }

    [Fact]
    public void A_pop_into_memory_through_rsp_uses_the_moved_pointer_and_restores_it_on_a_fault()
    {
        _machine.Flat(64);
        Cpu.Rsp = Stack;
        *(ulong*)(Ram + Stack) = 0x55;
        Step(64, a => a.pop(__qword_ptr[rsp + 16]));
        Assert.Equal((0x55UL, Stack + 8), (*(ulong*)(Ram + Stack + 24), Cpu.Rsp));
        Cpu.Rbx = 1UL << 62;
        AssertFault(Vector.GeneralProtection, 64, a => a.pop(__qword_ptr[rbx]));
        Assert.Equal(Stack + 8, Cpu.Rsp);
    }

    [Fact]
    public void Pusha_stores_the_old_stack_pointer_and_popa_skips_it()
    {
        _machine.Flat(32);
        for (uint i = 0; i < 8; i++) S->Gpr[i] = 0x10 + i;
        Cpu.Rsp = Stack;
        Step(32, a => a.pushad());
        Assert.Equal((uint)Stack, *(uint*)(Ram + Stack - 20));
        Assert.Equal((0x10u, 0x17u), (*(uint*)(Ram + Stack - 4), *(uint*)(Ram + Stack - 32)));
        for (uint i = 0; i < 8; i++) if (i != 4) S->Gpr[i] = 0;
        Step(32, a => a.popad());
        Assert.Equal((0x10UL, 0x17UL, Stack), (Cpu.Rax, Cpu.Rdi, Cpu.Rsp));
    }

    [Fact]
    public void Pusha_faults_at_the_first_register_that_has_no_room()
    {
        const ulong top = 0x300000, table = GuestMachine.Tables + 0x1000;
        using GuestMachine machine = new GuestMachine().Flat(32);
        machine.Memory.Write(GuestMachine.Tables, 4, table | 3);
        for (uint page = 0; page < top >> 12; page++) machine.Memory.Write(table + page * 4, 4, page << 12 | 3);
        machine.Memory.Write(table + ((top >> 12) - 1) * 4, 4, 0);
        machine.Paging(PagingMode.Legacy);
        machine.Memory.Write(0x10000, [0x60]);
        machine.Cpu.State->Rip = 0x10000;
        machine.Cpu.Rsp = top;
        var fault = Assert.Throws<GuestFault>(machine.Cpu.RunOne);
        Assert.Equal((Vector.PageFault, top - 4, top), (fault.Number, machine.S->Cr2, machine.Cpu.Rsp));
    }

    [Fact]
    public void Near_branches_with_sixteen_bit_operands_truncate_the_target()
    {
        Flat16();
        _code = 0xFFF0;
        Step(16, a => a.db(0xE9, 0x20, 0x00));                      // jmp +20h from FFF3h
        Assert.Equal(0x13UL, S->Rip);
    }

    [Fact]
    public void A_target_beyond_the_limit_faults_before_the_return_address_is_pushed()
    {
        _machine.Flat(32);
        S->Cs.Limit = 0xFFFFF;
        Cpu.ModeChanged();
        (Cpu.Rsp, Cpu.Rax) = (Stack, 0x100000);
        *(uint*)(Ram + Stack - 4) = 0x77;
        AssertFault(Vector.GeneralProtection, 32, a => a.call(eax));
        Assert.Equal((Stack, 0x77u), (Cpu.Rsp, *(uint*)(Ram + Stack - 4)));
    }

    [Fact]
    public void A_target_that_is_not_canonical_faults_at_the_branch()
    {
        _machine.Flat(64);
        (Cpu.Rsp, Cpu.Rax) = (Stack, 1UL << 47);
        AssertFault(Vector.GeneralProtection, 64, a => a.jmp(rax));
        AssertFault(Vector.GeneralProtection, 64, a => a.call(rax));
        *(ulong*)(Ram + Stack) = 1UL << 47;
        AssertFault(Vector.GeneralProtection, 64, a => a.ret());
        Assert.Equal(Stack, Cpu.Rsp);
    }

    [Fact]
    public void Calls_and_returns_find_back_and_release_what_they_are_told()
    {
        _machine.Flat(64);
        (Cpu.Rsp, Cpu.Rax) = (Stack, 0x20000);
        ulong next = _code + 2;
        Step(64, a => a.call(rax));
        Assert.Equal((0x20000UL, Stack - 8, next), (S->Rip, Cpu.Rsp, *(ulong*)(Ram + Stack - 8)));
        Step(64, a => a.ret(0x18));
        Assert.Equal((next, Stack + 0x18), (S->Rip, Cpu.Rsp));
    }

    [Fact]
    public void Loops_count_in_the_address_size_and_jump_on_their_condition()
    {
        _machine.Flat(64);
        Cpu.Rcx = 0xFFFFFFFF00000002;
        Step(64, a => a.db(0x67, 0xE2, 0x10));                      // loop with ECX
        Assert.Equal((1UL, _code - 16 + 0x13), (Cpu.Rcx, S->Rip));
        Step(64, a => a.db(0x67, 0xE2, 0x10));
        Assert.Equal((0UL, _code - 16 + 3), (Cpu.Rcx, S->Rip));
        Step(64, a => a.db(0xE3, 0x10));                            // jrcxz
        Assert.Equal(_code - 16 + 0x12, S->Rip);
        (Cpu.Rcx, Cpu.ArithmeticFlags) = (5, 0);
        Step(64, a => a.db(0xE1, 0x10));                            // loope, ZF clear
        Assert.Equal((4UL, _code - 16 + 2), (Cpu.Rcx, S->Rip));
    }

    [Fact]
    public void Conditions_hold_as_the_flags_say()
    {
        for (ulong flags = 0; flags < 64; flags++)
        {
            ulong value = Pick(flags, 1, Rflags.Cf) | Pick(flags, 2, Rflags.Pf) | Pick(flags, 4, Rflags.Zf)
                | Pick(flags, 8, Rflags.Sf)
                | Pick(flags, 16, Rflags.Of) | Pick(flags, 32, Rflags.Af);
            Cpu.ArithmeticFlags = value;
            Assert.Equal(value, Cpu.ArithmeticFlags);
            bool c = (flags & 1) != 0, p = (flags & 2) != 0, z = (flags & 4) != 0, s = (flags & 8) != 0,
                o = (flags & 16) != 0;
            bool[] holds = [o, c, z, c || z, s, p, s != o, s != o || z];
            for (int cc = 0; cc < 16; cc++) Assert.Equal(holds[cc >> 1] != ((cc & 1) != 0), Cpu.Condition(cc));
        }

        static ulong Pick(ulong flags, ulong bit, ulong flag) => (flags & bit) != 0 ? flag : 0;
    }

    [Fact]
    public void Locked_operations_work_over_a_page_end()
    {
        _machine.Flat(64);
        Cpu.Rbx = Data + 0xFFD;
        *(ulong*)(Ram + Data + 0xFFD) = 0x00FF_FFFF_FFFF;
        Step(64, a => a.@lock.inc(__qword_ptr[rbx]));
        Assert.Equal(0x0100_0000_0000UL, *(ulong*)(Ram + Data + 0xFFD));
        Cpu.Rax = 5;
        Step(64, a => a.xchg(__qword_ptr[rbx], rax));
        Assert.Equal((0x0100_0000_0000UL, 5UL), (Cpu.Rax, *(ulong*)(Ram + Data + 0xFFD)));
    }

    [HostFact("cx16")]
    public void Cmpxchg16b_wants_alignment_and_a_failing_cmpxchg_wants_write_access()
    {
        _machine.Flat(64);
        Cpu.Rbx = Data + 8;
        AssertFault(Vector.GeneralProtection, 64, a => a.cmpxchg16b(__xmmword_ptr[rbx]));
        _machine.Memory.Write(GuestMachine.Tables + 0x2000 + (Data >> 21) * 8, 8, Data >> 21 << 21 | 0x85);
        Cpu.FlushTlb(global: true);
        Cpu.Rax = 1;
        *(ulong*)(Ram + Data + 8) = 2;
        AssertFault(Vector.PageFault, 64, a => a.cmpxchg(__qword_ptr[rbx], rcx));
        Assert.Equal(1UL, Cpu.Rax);
    }

    [Theory]
    [InlineData(new byte[] { 0xF0, 0x01, 0xD8 })]                   // lock add eax,ebx
    [InlineData(new byte[] { 0xF0, 0x39, 0x18 })]                   // lock cmp [rax],ebx
    [InlineData(new byte[] { 0xF0, 0x8B, 0x18 })]                   // lock mov ebx,[rax]
    [InlineData(new byte[] { 0xF0, 0x0F, 0xA3, 0x18 })]             // lock bt [rax],ebx
    [InlineData(new byte[] { 0xF0, 0x90 })]
    public void Lock_is_invalid_where_nothing_is_modified_in_memory(byte[] bytes)
    {
        _machine.Flat(64);
        Cpu.Rax = Data;
        AssertFault(Vector.InvalidOpcode, 64, a => a.db(bytes));
    }

    [Fact]
    public void A_frame_with_levels_copies_the_outer_frame_pointers()
    {
        _machine.Flat(32);
        (Cpu.Rsp, Cpu.Rbp) = (Stack, Stack + 0x100);
        (*(uint*)(Ram + Stack + 0xFC), *(uint*)(Ram + Stack + 0xF8)) = (0xA, 0xB);
        Step(32, a => a.enter(0x20, 3));
        uint* top = (uint*)(Ram + Stack);
        Assert.Equal(((uint)Stack + 0x100, 0xAu, 0xBu, (uint)Stack - 4), (top[-1], top[-2], top[-3], top[-4]));
        Assert.Equal((Stack - 4, Stack - 0x30), (Cpu.Rbp, Cpu.Rsp));
        Step(32, a => a.leave());
        Assert.Equal((Stack + 0x100, Stack), (Cpu.Rbp, Cpu.Rsp));
    }

    [Fact]
    public void Bmi_is_invalid_in_real_mode()
    {
        Flat16();
        S->Cr0 &= ~Cr0.Pe;
        Cpu.ModeChanged();
        AssertFault(Vector.InvalidOpcode, 16, a => a.db(0xC4, 0xE2, 0x60, 0xF2, 0xC1));       // andn eax,ebx,ecx
    }

    void Flat16()
    {
        _code = 0x8000;
        _machine.Flat(16);
        for (int i = 0; i < Seg.Count; i++)
            (S->Segment(i).Limit, S->Segment(i).Access) = (0xFFFF, (ushort)(S->Segment(i).Access & ~Segment.Big));
        Cpu.ModeChanged();
    }

    /// <summary>Runs one instruction at a fresh place.</summary>
    void Step(int bits, Action<Assembler> program)
    {
        _machine.Place(_code, bits, program);
        S->Rip = _code;
        _code += 16;
        Cpu.RunOne();
    }

    void AssertFault(int vector, int bits, Action<Assembler> program)
    {
        ulong at = _code;
        var fault = Assert.Throws<GuestFault>(() => Step(bits, program));
        Assert.Equal((vector, at), (fault.Number, S->Rip));
    }
}
