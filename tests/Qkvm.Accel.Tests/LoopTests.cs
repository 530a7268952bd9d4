using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Loops, whose checks of what stays come before them on the translator, and returns, which it remembers by
/// address.</summary>
public sealed unsafe class LoopTests
{
    const ulong Absent = 0x40005000, Present = 0x40001000;

    public static TheoryData<bool> Tiers => [true, false];

    [Theory, MemberData(nameof(Tiers))]
    public void A_load_that_is_never_reached_does_not_fault(bool translated) =>
        Assert.Equal((-1, 1000UL), Count(translated, Absent, (c, skip) => c.jnz(skip), c => c.mov(rdx, __[rbx])));

    [Theory, MemberData(nameof(Tiers))]
    public void A_store_that_is_never_reached_does_not_fault(bool translated) =>
        Assert.Equal((-1, 1000UL), Count(translated, Absent, (c, skip) => c.jnz(skip), c => c.mov(__[rbx], rdx)));

    [Theory, MemberData(nameof(Tiers))]
    public void A_store_to_an_absent_page_faults_in_the_first_round(bool translated) =>
        Assert.Equal((Vector.PageFault, 1UL), Count(translated, Absent, (_, _) => { }, c => c.mov(__[rbx], rdx)));

    [Theory, MemberData(nameof(Tiers))]
    public void A_load_that_is_reached_late_faults_then(bool translated) =>
        Assert.Equal((Vector.PageFault, 700UL), Count(translated, Absent, (c, skip) =>
        {
            c.cmp(rcx, 700);
            c.jne(skip);
        }, c => c.mov(rdx, __[rbx])));

    [Theory, MemberData(nameof(Tiers))]
    public void What_the_loop_stores_it_reads_again(bool translated)
    {
        using TierMachine tier = Mapped(translated);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.Label(ref loop);
            c.mov(rax, __[rbx]);
            c.add(rax, rcx);
            c.mov(__[rbx], rax);
            c.dec(rcx);
            c.jnz(loop);
            c.hlt();
        });
        (tier.Cpu.Rbx, tier.Cpu.Rcx) = (Present, 1000);
        tier.Run();
        Assert.Equal(1000UL * 1001 / 2, tier.Read(TierMachine.Frame(1)));
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Flags_outlive_a_call_and_its_return(bool translated)
    {
        using TierMachine tier = Mapped(translated);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel(), other = c.CreateLabel(), function = c.CreateLabel();
            c.Label(ref loop);
            c.call(function);
            c.jc(other);
            c.inc(rsi);
            c.Label(ref other);
            c.dec(rcx);
            c.jnz(loop);
            c.hlt();
            c.Label(ref function);
            c.bt(rcx, 0);
            c.ret();
        });
        (tier.Cpu.Rcx, tier.Cpu.Rsi) = (1001, 0);
        tier.Run();
        Assert.Equal(500UL, tier.Cpu.Rsi);
    }

    /// <summary>The same linear addresses lead to other code after INVLPG, for the call as for the return.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void A_return_goes_to_what_its_address_means_now(bool translated)
    {
        using TierMachine tier = Mapped(translated);
        // In the window: a caller in page 2, whose frame changes while the function in page 3 runs.
        void Caller(int frame, int result) => tier.Place(TierMachine.Frame(frame), c =>
        {
            c.call(rdi);
            c.mov(eax, result);
            c.jmp(rbp);
        });
        Caller(2, 1);
        Caller(7, 2);
        tier.Place(TierMachine.Frame(3), c =>
        {
            c.mov(__[rdx], rsi);
            c.invlpg(__[rbx]);
            c.ret();
        });
        tier.Place(TierMachine.Code, c =>
        {
            Label back = c.CreateLabel(), again = c.CreateLabel();
            c.lea(rbp, __[back]);
            c.Label(ref again);
            c.mov(rsi, r12);
            c.jmp(rbx);
            c.Label(ref back);
            c.add(r14, rax);
            c.xchg(r12, r13);
            c.dec(rcx);
            c.jnz(again);
            c.hlt();
        });
        (tier.Cpu.Rbx, tier.Cpu.Rdi, tier.Cpu.Rdx, tier.Cpu.Rcx) =
            (TierMachine.Linear(2), TierMachine.Linear(3), TierMachine.EntryOf(2), 100);
        (tier.Cpu.Rax, tier.Cpu.State->Gpr[14]) = (0, 0);
        (tier.Cpu.State->Gpr[12], tier.Cpu.State->Gpr[13]) =
            (TierMachine.Frame(7) | TierMachine.Present, TierMachine.Frame(2) | TierMachine.Present);
        tier.Run();
        // Each round leaves the caller that it entered by way of the other one.
        Assert.Equal(50UL * 2 + 50 * 1, tier.Cpu.State->Gpr[14]);
    }

    /// <summary>Counts RCX up to 1000, with an access each round unless it is jumped over. The exception, or -1; the
    /// count.</summary>
    static (int, ulong) Count(bool translated, ulong address, Action<Assembler, Label> unless, Action<Assembler> access)
    {
        using TierMachine tier = Mapped(translated);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel(), skip = c.CreateLabel();
            c.xor(ecx, ecx);
            c.jmp(loop);
            c.Label(ref loop);
            c.inc(rcx);
            unless(c, skip);
            access(c);
            c.Label(ref skip);
            c.cmp(rcx, 1000);
            c.jb(loop);
            c.hlt();
        });
        tier.Cpu.Rbx = address;
        tier.Run();
        return (tier.Vector, tier.Cpu.Rcx);
    }

    static TierMachine Mapped(bool translated)
    {
        var tier = new TierMachine(translated);
        for (int i = 1; i < 4; i++) tier.Map(i, TierMachine.Frame(i));
        return tier;
    }
}
