using Iced.Intel;
using Qkvm.Accel.Tcg;
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

    [Theory, MemberData(nameof(Tiers))]
    public void Jumps_reach_2_GiB_from_anywhere_in_a_page(bool translated)
    {
        const ulong from = TierMachine.Code + 0x800;
        foreach (byte[] jump in (byte[][])[[0xE9], [0xE8], [0x0F, 0x84]])
            foreach (int distance in (int[])[int.MaxValue, int.MinValue])
            {
                using var tier = new TierMachine(translated);
                tier.Place(from - 3, c =>
                {
                    c.cmp(rax, rax);
                    c.db([.. jump, .. BitConverter.GetBytes(distance)]);
                });
                tier.Run(from - 3);
                Assert.Equal((Vector.PageFault, from + (ulong)jump.Length + 4 + (ulong)distance),
                    (tier.Vector, tier.Cpu.State->Cr2));
            }
    }

    /// <summary>Bits that name registers 8 to 15 say nothing there.</summary>
    [HostTheory("avx"), MemberData(nameof(Tiers))]
    public void Registers_above_7_exist_in_64_bit_code_only(bool translated)
    {
        using GuestMachine machine = new GuestMachine(1).Flat(32);
        CpuState* s = machine.S;
        s->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
        s->Xcr0 = machine.Cpu.Xcr0Supported;
        machine.Cpu.Translates = translated;
        machine.Cpu.ModeChanged();
        byte* xmm = s->Xsave.Bytes + XsaveArea.Xmm0;
        for (int i = 0; i < 16; i++) *(ulong*)(xmm + i * 16) = 1UL << i;
        machine.Place(0x10000, 32, c =>
        {
            c.db(0xC4, 0xC1, 0x31, 0xFE, 0xC2);                     // vpaddd xmm0, xmm1, xmm2
            c.hlt();
        });
        machine.RunToHalt(0x10000);
        Assert.Equal(6UL, *(ulong*)xmm);
    }

    [Theory, MemberData(nameof(Tiers))]
    public void Mask_registers_above_7_do_not_exist(bool translated)
    {
        using GuestMachine machine = new GuestMachine(1).Flat(32);
        if (!machine.Cpu.HasAvx512) return;
        CpuState* s = machine.S;
        s->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
        s->Xcr0 = machine.Cpu.Xcr0Supported;
        (s->IdtrBase, s->IdtrLimit, s->GdtrBase, s->GdtrLimit) = (0x2000, 0xFF, 0x1000, 0x17);
        machine.Memory.Write(0x1008, 8, 0x00CF9B000000FFFF);
        machine.Memory.Write(0x2000 + 6 * 8, 8, 0x4000 | 8 << 16 | 0x8EUL << 40);
        machine.Memory.Write(0x4000, [0xF4]);
        machine.Cpu.Translates = translated;
        machine.Cpu.ModeChanged();
        s->Gpr[4] = 0x9000;
        machine.Place(0x10000, 32, c =>
        {
            c.db(0xC4, 0xE1, 0x2C, 0x41, 0xCB);                     // kandw k1, k2 or k10, k3
            c.db(0xC4, 0xC1, 0x78, 0x90, 0xCB);                     // kmovw k1, k3 or k11
            c.hlt();
        });
        machine.RunToHalt(0x10000);
    }
}
