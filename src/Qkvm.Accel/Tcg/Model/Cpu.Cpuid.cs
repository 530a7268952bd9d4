using Iced.Intel;
using Qkvm.Accel.Tcg.Model;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The model: what CPUID shows, and what therefore exists.</summary>
public sealed unsafe partial class Cpu
{
    readonly Cpuid _cpuid;
    readonly bool[] _decodable;

    /// <summary>What -cpu made of this processor.</summary>
    public Cpuid Model => _cpuid;

    public void Cpuid(uint leaf, uint subleaf, out uint eax, out uint ebx, out uint ecx, out uint edx) =>
        (eax, ebx, ecx, edx) = _cpuid.Query(leaf, subleaf, State->Cr4, State->Xcr0, Apic?.BaseMsr ?? 0x800);

    internal bool IsAmd { get; }
    internal bool HasSmap { get; }
    internal bool HasLam { get; }

    /// <summary>LAHF and SAHF exist in 64-bit mode.</summary>
    internal bool HasLahf { get; }
    internal bool HasInvpcid { get; }
    internal bool HasMonitor { get; }
    internal bool HasRdpid { get; }
    internal bool HasRdtscp { get; }
    internal bool HasMmxExtensions { get; }

    /// <summary>Bits of MXCSR that exist.</summary>
    internal uint MxcsrValid { get; }
    internal bool HasXinuse { get; }
    internal bool HasXsavec { get; }

    /// <summary>XINUSE: components that are not in their initial state. Without tracking, all may be.</summary>
    internal ulong XstateInUse => Xcr0Supported;
    internal ulong Xcr0Supported { get; }
    internal ulong Cr4Supported { get; }
    internal ulong EferSupported { get; }

    uint ProcessorSignature => _cpuid.Signature;

    internal bool IsSupported(Code code)
    {
        if (code is Code.Lahf or Code.Sahf && _codeSize == 8 && !HasLahf) return false;
        if (IsHint(code)) return HasHint(code);
        foreach (CpuidFeature feature in code.CpuidFeatures())
            if (!_decodable[(int)feature]) return HasMmxExtensions && Array.IndexOf(s_mmxExtensions, code) >= 0;
        return true;
    }

    /// <summary>SSE's instructions on MMX registers, which AMD's processors had before SSE. APM vol. 3, appendix
    /// D.3.</summary>
    static readonly Code[] s_mmxExtensions =
    [
        Code.Maskmovq_rDI_mm_mm, Code.Movntq_m64_mm, Code.Pavgb_mm_mmm64, Code.Pavgw_mm_mmm64, Code.Pextrw_r32_mm_imm8,
        Code.Pextrw_r64_mm_imm8, Code.Pinsrw_mm_r32m16_imm8, Code.Pinsrw_mm_r64m16_imm8, Code.Pmaxsw_mm_mmm64,
        Code.Pmaxub_mm_mmm64, Code.Pminsw_mm_mmm64, Code.Pminub_mm_mmm64, Code.Pmovmskb_r32_mm, Code.Pmovmskb_r64_mm,
        Code.Pmulhuw_mm_mmm64, Code.Psadbw_mm_mmm64, Code.Pshufw_mm_mmm64_imm8, Code.Sfence,
    ];

    /// <summary>0F 0D and 0F 18 to 0F 1F, all prefixes: prefetches, ENDBR, RDSSP and what is reserved. None depends on
    /// a feature: where it is not the instruction of one, it is a NOP. Intel SDM vol. 2, NOP, RDSSP, ENDBR and table
    /// A-3.</summary>
    static bool IsHint(Code code)
    {
        if (code.Mnemonic() is Mnemonic.Endbr32 or Mnemonic.Endbr64 or Mnemonic.Rdsspd or Mnemonic.Rdsspq) return true;
        OpCodeInfo op = code.ToOpCode();
        return op.Encoding == EncodingKind.Legacy && op.Table == OpCodeTableKind.T0F
            && op.OpCode is 0x0D or >= 0x18 and <= 0x1F;
    }

    /// <summary>Intel's since the P6 have all. AMD's want memory for 0F 0D, which all with 3DNow! or 64 bits have: APM
    /// vol. 3, PREFETCH.</summary>
    bool HasHint(Code code)
    {
        if (_cpuid.Model.Family < 6) return false;
        return !IsAmd || code.ToOpCode().OpCode != 0x0D || code.Mnemonic() != Mnemonic.Reservednop;
    }

    /// <summary>Where the processor lacks TZCNT, LZCNT or WBNOINVD, their prefix is ignored.</summary>
    internal DecoderOptions DecoderOptions =>
        (_cpuid.Has("bmi1") ? 0 : DecoderOptions.NoMPFX_0FBC) | (_cpuid.Has("abm") ? 0 : DecoderOptions.NoMPFX_0FBD)
        | (_cpuid.Has("wbnoinvd") ? 0 : DecoderOptions.NoWbnoinvd)
        | (_cpuid.Model.IsAmd ? DecoderOptions.AMD : 0);

    static ulong Cr4BitsOf(Cpuid cpuid)
    {
        ulong bits = Cr4.Pce;
        foreach ((string feature, ulong bit) in Cr4Features)
            if (cpuid.Has(feature)) bits |= bit;
        return bits;
    }

    static readonly (string, ulong)[] Cr4Features =
    [
        ("vme", Cr4.Vme | Cr4.Pvi), ("tsc", Cr4.Tsd), ("de", Cr4.De), ("pse", Cr4.Pse), ("pae", Cr4.Pae),
            ("pge", Cr4.Pge),
        ("fxsr", Cr4.Osfxsr), ("sse", Cr4.Osxmmexcpt), ("umip", Cr4.Umip), ("la57", Cr4.La57),
            ("fsgsbase", Cr4.Fsgsbase),
        ("pcid", Cr4.Pcide), ("xsave", Cr4.Osxsave), ("smep", Cr4.Smep), ("smap", Cr4.Smap), ("pku", Cr4.Pke),
        ("mce", Cr4.Mce), ("pks", Cr4.Pks), ("lam", Cr4.LamSup),
    ];

    static ulong EferBitsOf(Cpuid cpuid) =>
        (cpuid.Has("syscall") ? Efer.Sce : 0) | (cpuid.Has("lm") ? Efer.Lme : 0) | (cpuid.Has("nx") ? Efer.Nx : 0)
        | (cpuid.Has("fxsr-opt") ? Efer.Ffxsr : 0) | (cpuid.Has("auto-ibrs") ? Efer.Aibrse : 0)
        | (cpuid.Has("svm") ? Efer.Svme : 0);
}
