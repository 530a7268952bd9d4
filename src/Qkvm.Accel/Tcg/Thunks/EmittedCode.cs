using Iced.Intel;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Thunks;

// SAFETY: reads code that was just written, as far as its length says.
/// <summary>Which instructions may stand in code that is written here: those of x86-64-v1, and what
/// <see cref="HostFeatures"/> has beyond.</summary>
static unsafe class EmittedCode
{
    static readonly CpuidFeature[] s_first =
    [
        CpuidFeature.INTEL8086, CpuidFeature.INTEL186, CpuidFeature.INTEL286, CpuidFeature.INTEL386,
            CpuidFeature.INTEL486, CpuidFeature.X64,
        CpuidFeature.CPUID, CpuidFeature.TSC, CpuidFeature.PAUSE, CpuidFeature.MULTIBYTENOP, CpuidFeature.CMOV,
            CpuidFeature.CX8, CpuidFeature.FPU,
        CpuidFeature.FPU287, CpuidFeature.FPU387, CpuidFeature.MMX, CpuidFeature.FXSR, CpuidFeature.SSE,
            CpuidFeature.SSE2,
    ];

    /// <summary>A processor with these features has the instruction in 64-bit code.</summary>
    public static bool Runs(Code code, HostFeatures host)
    {
        if (code is Code.Lahf or Code.Sahf) return host.Has("lahf-lm");
        foreach (CpuidFeature feature in code.CpuidFeatures())
            if (Array.IndexOf(s_first, feature) < 0
                && !(Cpuid.NameOf(feature) is { } name && HostFeatures.IsKnown(name) && host.Has(name))) return false;
        return true;
    }

    public static bool Runs(Code code) => Runs(code, HostFeatures.Current);

    /// <summary>Under a mask of the host's features: throws if there is an instruction among these that it does not
    /// allow. The processor would run it without a word.</summary>
    public static void Check(byte* code, long length)
    {
        if (HostFeatures.IsMasked && Find(new ReadOnlySpan<byte>(code, (int)length).ToArray(), HostFeatures.Current)
            is { } found)
            throw new InvalidOperationException($"emitted beyond {HostFeatures.Variable}: {found}");
    }

    /// <summary>The first instruction that a host does not have; null: none.</summary>
    public static string? Find(byte[] code, HostFeatures host)
    {
        var decoder = Decoder.Create(64, code);
        while (decoder.IP < (ulong)code.Length)
        {
            decoder.Decode(out Instruction x);
            if (x.IsInvalid || !Runs(x.Code, host)) return $"{x.Code} at {x.IP} of {Convert.ToHexString(code)}";
        }
        return null;
    }
}
