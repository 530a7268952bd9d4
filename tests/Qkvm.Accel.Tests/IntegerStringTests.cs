using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Memory;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Repeated string instructions over page ends, into faults, and on registers of devices.</summary>
public sealed unsafe class IntegerStringTests : IDisposable
{
    const ulong FirstCode = 0x10000, Source = 0x202FF1, Target = 0x300FF3, Absent = 0x400000;
    const int Length = 0x3008;

    readonly GuestMachine _machine = new GuestMachine().Flat(64);
    ulong _code = FirstCode;

    Cpu Cpu => _machine.Cpu;
    byte* Ram => _machine.Ram.Pointer;

    public void Dispose() => _machine.Dispose();

    [Fact]
    public void A_move_over_pages_copies_every_byte_and_counts_to_zero()
    {
        new Random(1).NextBytes(new Span<byte>(Ram + Source, Length));
        Start(a => a.rep.movsq(), Source, Target, Length / 8);
        Finish();
        Assert.True(new Span<byte>(Ram + Source, Length).SequenceEqual(new Span<byte>(Ram + Target, Length)));
        Assert.Equal((0UL, Source + Length, Target + Length), (Cpu.Rcx, Cpu.Rsi, Cpu.Rdi));
    }

    [Fact]
    public void A_move_onto_its_own_source_repeats_the_pattern()
    {
        for (uint i = 0; i < 3; i++) Ram[Source + i] = (byte)(i + 1);
        Start(a => a.rep.movsb(), Source, Source + 3, 0x2000);
        Finish();
        for (uint i = 0; i < 0x2003; i++) Assert.Equal((byte)(i % 3 + 1), Ram[Source + i]);
    }

    [Fact]
    public void A_move_downwards_ends_below_its_start()
    {
        new Random(2).NextBytes(new Span<byte>(Ram + Source, 0x2000));
        Start(a => a.rep.movsd(), Source + 0x1FFC, Target + 0x1FFC, 0x800);
        Cpu.State->RflagsSystem |= Rflags.Df;
        Finish();
        Assert.True(new Span<byte>(Ram + Source, 0x2000).SequenceEqual(new Span<byte>(Ram + Target, 0x2000)));
        Assert.Equal((0UL, Source - 4, Target - 4), (Cpu.Rcx, Cpu.Rsi, Cpu.Rdi));
    }

    [Fact]
    public void A_move_downwards_onto_its_own_source_repeats_the_pattern()
    {
        const ulong end = Source + 0x2000;
        for (uint i = 0; i < 3; i++) Ram[end - i] = (byte)(i + 1);
        Start(a => a.rep.movsb(), end, end - 3, 0x1F00);
        Cpu.State->RflagsSystem |= Rflags.Df;
        Finish();
        for (uint i = 0; i < 0x1F03; i++) Assert.Equal((byte)(i % 3 + 1), Ram[end - i]);
    }

    [Fact]
    public void A_page_fault_in_a_move_downwards_leaves_the_registers_at_the_element_that_faulted()
    {
        Unmap(Absent);
        Start(a => a.rep.movsb(), Source + 0x1000, Absent + 0x200800, 0x1000);
        Cpu.State->RflagsSystem |= Rflags.Df;
        var fault = Assert.Throws<GuestFault>(Finish);
        Assert.Equal(Vector.PageFault, fault.Number);
        // 801h bytes lie above the page that is absent.
        Assert.Equal((0x1000UL - 0x801, Source + 0x1000 - 0x801, Absent + 0x1FFFFF),
            (Cpu.Rcx, Cpu.Rsi, Cpu.State->Cr2));
    }

    [Fact]
    public void A_page_fault_in_mid_string_leaves_the_registers_at_the_element_that_faulted()
    {
        Unmap(Absent);
        Start(a => a.rep.stosd(), 0, Absent - 0x1802, 0x1000);
        Cpu.Rax = 0x11223344;
        var fault = Assert.Throws<GuestFault>(Finish);
        Assert.Equal(Vector.PageFault, fault.Number);
        // 600h dwords end two bytes before the page: the next one crosses into it and is not written at all.
        Assert.Equal((0x1000UL - 0x600, Absent - 2, Absent), (Cpu.Rcx, Cpu.Rdi, Cpu.State->Cr2));
        Assert.Equal(_code, Cpu.State->Rip);
        Assert.Equal((0x11, 0), (Ram[Absent - 3], Ram[Absent - 2]));
    }

    [Fact]
    public void A_fault_in_a_comparison_keeps_the_flags_from_before()
    {
        Unmap(Absent);
        Start(a => a.repe.cmpsb(), Absent - 0x10, Source, 0x100);
        new Span<byte>(Ram + Source, 0x100).Clear();
        Cpu.ArithmeticFlags = Rflags.Cf | Rflags.Of;
        Assert.Throws<GuestFault>(Finish);
        Assert.Equal(Rflags.Cf | Rflags.Of, Cpu.ArithmeticFlags);
        Assert.Equal((0xF0UL, Absent), (Cpu.Rcx, Cpu.Rsi));
    }

    [Fact]
    public void Scans_and_comparisons_stop_behind_the_element_that_decides()
    {
        new Span<byte>(Ram + Source, Length).Fill(7);
        Ram[Source + 0x2100] = 9;
        Start(a => a.repne.scasb(), 0, Source, Length);
        Cpu.Rax = 9;
        Finish();
        Assert.Equal((Source + 0x2101, (ulong)Length - 0x2101, true), (Cpu.Rdi, Cpu.Rcx, Cpu.Zero));
        Start(a => a.repe.scasb(), 0, Source, Length);
        Cpu.Rax = 7;
        Finish();
        Assert.Equal((Source + 0x2101, true, false), (Cpu.Rdi, Cpu.Carry, Cpu.Zero));
        new Span<byte>(Ram + Target, Length).Fill(7);
        Start(a => a.repe.cmpsw(), Source + 0x1000, Target, 0x900);
        Finish();
        Assert.Equal((Source + 0x2102, 0x900UL - 0x881, false), (Cpu.Rsi, Cpu.Rcx, Cpu.Carry));
    }

    [Fact]
    public void A_count_of_zero_touches_nothing()
    {
        Start(a => a.rep.movsb(), 0xDEAD000000000000, 0xDEAD000000000000, 0);
        Cpu.ArithmeticFlags = Rflags.Sf;
        Finish();
        Assert.Equal((0xDEAD000000000000, Rflags.Sf), (Cpu.Rdi, Cpu.ArithmeticFlags));
    }

    [Fact]
    public void Sixteen_bit_addresses_wrap_inside_the_segment()
    {
        _machine.Flat(16);
        for (int i = 0; i < Seg.Count; i++) _machine.S->Segment(i).Limit = 0xFFFF;
        _machine.S->Es.Base = 0x200000;
        _machine.S->Efer = 0;
        _machine.S->Cr0 &= ~Cr0.Pg;
        Cpu.ModeChanged();
        _machine.Place(0x800, 16, a => a.rep.stosb());
        (Cpu.Rax, Cpu.Rcx, Cpu.Rdi, _machine.S->Rip) = (0x5A, 0x20, 0xABCDFFF0, 0x800);
        Finish();
        Assert.Equal((0x5A, 0x5A, 0, 0), (Ram[0x20FFFF], Ram[0x20000F], Ram[0x200010], Ram[0x210000]));
        Assert.Equal(0xABCD0010UL, Cpu.Rdi);
    }

    void Unmap(ulong linear)
    {
        _machine.Memory.Write(GuestMachine.Tables + 0x2000 + (linear >> 21) * 8, 8, 0);
        Cpu.FlushTlb(global: true);
    }

    void Start(Action<Assembler> program, ulong rsi, ulong rdi, ulong rcx)
    {
        _code += 16;
        _machine.Place(_code, 64, program);
        (Cpu.Rsi, Cpu.Rdi, Cpu.Rcx) = (rsi, rdi, rcx);
        Cpu.State->Rip = _code;
        Cpu.FlushTlb(global: true);
    }

    /// <summary>Until the instruction is through.</summary>
    void Finish()
    {
        ulong at = Cpu.State->Rip;
        for (int i = 0; i < 100_000 && Cpu.State->Rip == at; i++) Cpu.RunOne();
        Assert.NotEqual(at, Cpu.State->Rip);
    }
}
