using Iced.Intel;
using Qkvm.Accel.Tcg.Thunks;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>What is held against the host's features before it runs.</summary>
public sealed unsafe class EmittedCodeTests
{
    static HostFeatures Masked(string mask)
    {
        Assert.Null(HostFeatures.TryMask(new HashSet<string>(HostFeatures.All), mask, out HostFeatures features));
        return features;
    }

    [Theory]
    [InlineData("v1", "9F", Code.Lahf)]
    [InlineData("v1", "660F7CC1", Code.Haddpd_xmm_xmmm128)]
    [InlineData("v1", "DF08", Code.Fisttp_m16int)]
    [InlineData("v1", "F30FB8C1", Code.Popcnt_r32_rm32)]
    [InlineData("v1", "F0480FC70F", Code.Cmpxchg16b_m128)]
    [InlineData("v2", "0F38F000", Code.Movbe_r32_m32)]
    [InlineData("v2", "F30FBDC1", Code.Lzcnt_r32_rm32)]
    [InlineData("v2", "F30FBCC1", Code.Tzcnt_r32_rm32)]
    [InlineData("v2", "C4E2F3F5C2", Code.VEX_Pdep_r64_r64_rm64)]
    [InlineData("v2", "0FAE20", Code.Xsave_mem)]
    [InlineData("v2", "C5F877", Code.VEX_Vzeroupper)]
    [InlineData("v2", "660F38DCC1", Code.Aesenc_xmm_xmmm128)]
    [InlineData("v2,+aes", "C4E271DCC2", Code.VEX_Vaesenc_xmm_xmm_xmmm128)]
    [InlineData("v3", "62F17548FEC2", Code.EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32)]
    [InlineData("v3", "660F38F6C1", Code.Adcx_r32_rm32)]
    [InlineData("v4", "62F27548 50C2", Code.EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32)]
    public void What_a_level_lacks_is_found(string mask, string bytes, Code code)
    {
        // mov eax, ecx before and ret behind are everybody's.
        byte[] all = [0x89, 0xC8, .. Convert.FromHexString(bytes.Replace(" ", "")), 0xC3];
        Assert.StartsWith($"{code} at 2 ", EmittedCode.Find(all, Masked(mask)));
        Assert.Null(EmittedCode.Find(all, Masked("")));
    }

    [Theory]
    [InlineData("480FAE0F480FAE07")]                                // fxrstor64, fxsave64
    // pushfq, pop, pause, cmovo, cmpxchg8b, addpd, rdtsc
    [InlineData("9C58F3900F40C10FC70F660F58C10F31")]
    public void What_all_have_is_let_pass(string bytes) =>
        Assert.Null(EmittedCode.Find(Convert.FromHexString(bytes), Masked("v1")));

    [MaskedFact]
    public void Under_a_mask_nothing_else_is_emitted()
    {
        byte[] amx = [0xC4, 0xE2, 0x78, 0x49, 0xC0];                // tilerelease, which no level has
        Assert.Contains(HostFeatures.Variable,
            Assert.Throws<InvalidOperationException>(() => { new CodeArena("test").Add(amx); }).Message);
    }

    /// <summary>Flags go to memory and come back where LAHF is missing, and where it is not.</summary>
    [Fact]
    public void All_flags_survive_a_miss()
    {
        for (int flags = 0; flags < 64; flags++)
        {
            ulong arithmetic = ((ulong)flags & 1) | ((ulong)flags >> 1 & 1) << 2 | ((ulong)flags >> 2 & 1) << 4
                | ((ulong)flags >> 3 & 1) << 6 | ((ulong)flags >> 4 & 1) << 7
                | ((ulong)flags >> 5 & 1) << 11;
            using var tier = new TierMachine(translated: true);
            tier.Place(TierMachine.Code, c =>
            {
                c.push((int)arithmetic | 2);
                c.popfq();
                c.mov(rcx, __[rbx]);
                c.setc(dl);
                c.pushfq();
                c.pop(rax);
                c.hlt();
            });
            tier.Cpu.Rbx = TierMachine.Code;
            tier.Run();
            Assert.Equal((arithmetic, arithmetic & 1), (tier.Cpu.Rax & 0x8D5, tier.Cpu.Rdx & 0xFF));
        }
    }
}

/// <summary>A test of the mask itself.</summary>
public sealed class MaskedFactAttribute()
    : Qkvm.Testing.ConditionalFactAttribute(HostFeatures.IsMasked ? null : $"needs {HostFeatures.Variable}: " +
    "scripts/test.sh runs this project once for each level");
