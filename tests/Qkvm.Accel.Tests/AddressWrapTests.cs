using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Interpreter;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Addresses of 32 bits and distances near 2 GiB, which wrap at one place and not at another.</summary>
public sealed unsafe class AddressWrapTests
{
    public static TheoryData<bool> Tiers => [true, false];

    /// <summary>The second operand lies 4 GiB below the byte behind the first.</summary>
    [Theory, MemberData(nameof(Tiers))]
    public void Offsets_of_32_bits_wrap_before_the_base_is_added(bool translated)
    {
        using var tier = new TierMachine(translated);
        tier.Map(1, TierMachine.Frame(1));
        tier.Place(TierMachine.Code, c =>
        {
            c.mov(eax, __dword_ptr.fs[ecx]);
            c.mov(edx, __dword_ptr.fs[ecx + 8]);
            c.hlt();
        });
        tier.Cpu.Rcx = 0xFFFFFFF8;
        tier.Cpu.State->Fs.Base = TierMachine.Linear(1) - 0xFFFFFFF8;
        tier.Run();
        Assert.Equal((Vector.PageFault, TierMachine.Linear(1) - 0xFFFFFFF8), (tier.Vector, tier.Cpu.State->Cr2));
        Assert.Equal(Code.Mov_r32_rm32, tier.FaultCode);
        Assert.True(tier.FaultRip > TierMachine.Code);
    }
}
