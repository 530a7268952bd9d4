using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>A test that runs 32-bit code on this processor.</summary>
public sealed class Code32TheoryAttribute : TheoryAttribute
{
    public Code32TheoryAttribute()
    {
        if (!HostOracle.RunsCode32) Skip = "needs a host whose kernel describes a segment of 32-bit code";
    }
}

// 32-bit code runs in the segment that Linux describes for it in every process' GDT. Some hosts have none.
sealed unsafe partial class HostOracle
{
    public static bool RunsCode32 { get; } = HasUserCode32();

    static bool HasUserCode32()
    {
        const ulong valid = 1UL << 63, present = 0x8000, code = 0x1800, isLong = 1 << 21, isBig = 1 << 22;
        using var oracle = new HostOracle();
        oracle.State->Gpr[4] = (ulong)oracle.Scratch;
        using var stream = new MemoryStream();
        var a = new Assembler(64);
        a.mov(ecx, UserCode32);
        a.lar(eax, ecx);                                            // access rights; ZF: there is such a segment
        a.Assemble(new StreamCodeWriter(stream), 0);
        oracle.State->Gpr[0] = valid;
        oracle.Run(stream.ToArray());
        ulong rights = oracle.State->Gpr[0];
        return (rights & (valid | present | code | isLong | isBig)) == (present | code | isBig);
    }
}
