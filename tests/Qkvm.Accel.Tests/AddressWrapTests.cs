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

    [Theory, MemberData(nameof(Tiers))]
    public void A_bit_string_wraps_at_4_GiB(bool translated)
    {
        const ulong at = 0x300000;
        using var tier = new TierMachine(translated);
        tier.Place(TierMachine.Code, c =>
        {
            c.bts(__dword_ptr[eax], ecx);
            c.bts(__qword_ptr[eax + 4], rdx);
            c.hlt();
        });
        (tier.Cpu.Rax, tier.Cpu.Rcx, tier.Cpu.Rdx) = (0xFFFFFFFC, (at + 4) * 8 + 3, ((1UL << 32) + at) * 8 + 5);
        tier.Run();
        Assert.Equal((-1, 0x28UL), (tier.Vector, tier.Read(at)));
    }
}
