using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>The table of undefined flags against another reader of the manuals.</summary>
public sealed class UndefinedResultsTests
{
    /// <summary>Iced's knowledge of each form; with a count that leaves most undefined, where that matters.</summary>
    [Fact]
    public void What_Iced_knows_to_be_undefined_the_table_has()
    {
        const int most = 63, least = 8;
        var fuzzer = new IntegerFuzzer(seed: 1, 32, 0);
        var missing = new HashSet<string>();
        for (int n = 0; n < 100_000; n++)
        {
            fuzzer.Choose();
            ulong undefined = UndefinedResults.Flags(fuzzer.Instruction, most, least),
                theirs = Flags(fuzzer.Instruction.RflagsUndefined);
            if ((theirs & ~undefined) != 0) missing.Add($"{fuzzer.Instruction.Mnemonic} {theirs & ~undefined:x}");
        }
        Assert.Empty(missing);
    }

    static ulong Flags(RflagsBits bits)
    {
        (RflagsBits Iced, ulong Ours)[] flags =
        [
            (RflagsBits.CF, Rflags.Cf), (RflagsBits.PF, Rflags.Pf), (RflagsBits.AF, Rflags.Af),
                (RflagsBits.ZF, Rflags.Zf), (RflagsBits.SF, Rflags.Sf), (RflagsBits.OF, Rflags.Of),
        ];
        ulong sum = 0;
        foreach ((RflagsBits iced, ulong ours) in flags)
            if ((bits & iced) != 0) sum |= ours;
        return sum;
    }
}
