using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Whatever flags and modes a sequence leaves: it ends, on the host as in the guest.</summary>
[Collection(nameof(SequenceFuzzerTests))]
public sealed unsafe class SequenceOracleTests
{
    const ulong Plain = Rflags.If | 2, Start = SequenceArena.Code + 0x100;
    const int Runs = 3;

    static readonly MemoryOperand s_odd = new(Register.None, Register.None, 1, (long)SequenceArena.Scratch + 0x401, 8);
    static readonly Instruction s_nop = Instruction.Create(Code.Nopd);

    /// <summary>Flags that POPF sets, what follows, and the vector that ends it.</summary>
    public static TheoryData<string, int> Ends => new()
    {
        { "TF at the end", Vector.Debug }, { "TF", Vector.Debug }, { "TF and PUSHF", Vector.Debug },
            { "AC", Vector.AlignmentCheck },
        { "AC at the end", SequenceArena.Done }, { "DF, NT and ID", SequenceArena.Done }, { "MXCSR", Vector.Simd },
            { "FCW", Vector.X87 },
        { "RSP", Vector.StackFault },
    };

    [Theory]
    [MemberData(nameof(Ends))]
    public void It_ends_and_leaves_what_it_leaves_in_the_guest(string what, int end) =>
        SequenceFuzzerTests.OnItsOwnThread(() =>
    {
        foreach (bool translated in (bool[])[false, true])
            foreach (bool scrambles in (bool[])[false, true])
            {
                // Some hypervisors' hosts cannot step then: see SequenceJudge.
                if (what == "RSP" && scrambles) continue;
                using var judge = new SequenceJudge(64, translated, scrambles);
                string? report = judge.CheckOther(Make(what), seed: 1);
                Assert.True(report == null, report);
                Assert.Equal((Runs, end == SequenceArena.Done ? 0 : Runs, 0),
                    (judge.Compared, judge.Faults, judge.Unjudged));
            }
    });

    /// <summary>By its steps, too, each of which is a signal; and with TF on the oracle's own way.</summary>
    [Theory]
    [InlineData(false, 0UL)]
    [InlineData(true, 0UL)]
    [InlineData(false, Rflags.Tf)]
    [InlineData(false, Rflags.Ac | Rflags.Nt | Rflags.Df)]
    public void The_watchdog_ends_what_has_no_end(bool steps, ulong flags) => SequenceFuzzerTests.OnItsOwnThread(() =>
    {
        using var oracle = new SequenceOracle(64) { Patience = TimeSpan.FromMilliseconds(20), Scrambles = steps };
        var image = new byte[sizeof(XsaveArea)];
        fixed (byte* at = image) oracle.LoadVectors(at);
        oracle.State->Flags = Plain | flags;
        new byte[] { 0xEB, 0xFE }.CopyTo(SequenceOracle.Code[0x100..]);                  // jmp to itself
        SequenceEnd end = oracle.Run(Start);
        Assert.Equal((-1, Start), (end.Number, end.Rip));
        Assert.True(!steps || oracle.Steps > 0);
    });

    static Sequence Make(string what)
    {
        Instruction[] code = what switch
        {
            "TF at the end" => [.. PopFlags(Rflags.Tf)],
            "TF" => [.. PopFlags(Rflags.Tf), s_nop, s_nop],
            "TF and PUSHF" => [.. PopFlags(Rflags.Tf), Instruction.Create(Code.Pushfq), s_nop],
            "AC" => [.. PopFlags(Rflags.Ac), Instruction.Create(Code.Mov_r32_rm32, Register.EAX, s_odd), s_nop],
            "AC at the end" => [.. PopFlags(Rflags.Ac)],
            "DF, NT and ID" => [.. PopFlags(Rflags.Df | Rflags.Nt | Rflags.Id)],
            "MXCSR" =>
                [.. Load(Code.Ldmxcsr_m32, 0x1F00),
                Instruction.Create(Code.Pcmpeqd_xmm_xmmm128, Register.XMM1, Register.XMM1),
                Instruction.Create(Code.Cvttsd2si_r32_xmmm64, Register.EAX, Register.XMM1)],
            "FCW" => [Instruction.Create(Code.Fninit), .. Load(Code.Fldcw_m2byte, 0x37B), Instruction.Create(Code.Fld1),
                Instruction.Create(Code.Fldz),
                Instruction.Create(Code.Fdivp_sti_st0, Register.ST1, Register.ST0), Instruction.Create(Code.Fld1)],
            _ => [Instruction.Create(Code.Mov_r64_imm64, Register.RSP, 0x1234567812345678),
                Instruction.Create(Code.Push_r64, Register.RAX)],
        };
        return new Sequence(64)
        {
            Items = [.. code.Select(x => new SequenceItem(x)),
                new(Instruction.CreateBranch(Code.Jmp_rel32_64, SequenceArena.Exit))],
        };
    }

    static Instruction[] PopFlags(ulong flags) =>
    [
        Instruction.Create(Code.Mov_r32_imm32, Register.ESP, (uint)SequenceArena.Scratch + 0x800),
            Instruction.Create(Code.Pushq_imm32, (int)(Plain | flags)),
        Instruction.Create(Code.Popfq),
    ];

    static Instruction[] Load(Code load, int value)
    {
        var at = new MemoryOperand(Register.None, Register.None, 1, (long)SequenceArena.Scratch + 0x500, 8);
        return [Instruction.Create(Code.Mov_rm32_imm32, at, value), Instruction.Create(load, at)];
    }
}
