namespace Qkvm.Accel.Tcg.Model;

/// <summary>What of the host's features can be used here.</summary>
public static partial class CpuFeatures
{
    const string OfAvx512 = "avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 avx512vnni avx512bitalg avx512-vpopcntdq "
        + "avx512-vp2intersect avx512-bf16 avx512-fp16";

    /// <summary>Drops what the host's kernel has not enabled the registers for, and AVX-512 where parts are missing that thunks
    /// cannot do without. Avx.IsSupported is no measure: it is false in code compiled ahead for x86-64-v2.</summary>
    static void DropUnusable(uint[] host)
    {
        const ulong avx = 6, avx512 = 0xE6;
        const string whole = "avx512f avx512dq avx512cd avx512bw avx512vl";
        ulong enabled = Thunks.HostState.Xcr0;
        uint[] ymm = Parse("avx fma f16c avx2 vaes vpclmulqdq avx-vnni"), zmm = Parse("avx512f"), wanted = Parse(whole);
        bool isWhole = (enabled & avx512) == avx512;
        for (int i = 0; i < host.Length; i++) isWhole &= (host[i] & wanted[i]) == wanted[i];
        for (int i = 0; i < host.Length; i++)
        {
            if ((enabled & avx) != avx) host[i] &= ~ymm[i];
            if (!isWhole) host[i] &= ~zmm[i];
        }
        DropDependent(host);
    }
}
