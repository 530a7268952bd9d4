namespace Qkvm.Accel.Tcg.Model;

/// <summary>Features that mean nothing without another: Intel SDM vol. 1, sections 14.3 and 15.2 to 15.4.</summary>
public static partial class CpuFeatures
{
    const string OfAvx512 = "avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 avx512vnni avx512bitalg avx512-vpopcntdq "
        + "avx512-vp2intersect avx512-bf16 avx512-fp16";

    /// <summary>Who needs, who is needed; what others need comes first.</summary>
    static readonly (string Dependents, string Needed)[] Dependencies =
    [
        ("xsaveopt xsavec xgetbv1 xsaves avx", "xsave"),
        ("fma f16c avx2 vaes vpclmulqdq avx-vnni", "avx"),
        ("avx512f", "avx2"),
        (OfAvx512, "avx512f"),
        ("avx512vbmi avx512vbmi2 avx512bitalg avx512-fp16", "avx512bw"),
    ];

    /// <summary>Takes away what lacks the feature that it needs.</summary>
    public static void TakeOrphans(uint[] words)
    {
        foreach ((string dependents, string needed) in Dependencies)
        {
            if (!TryFind(needed, out CpuidWord word, out int bit) || (words[(int)word] >> bit & 1) != 0) continue;
            uint[] orphans = Parse(dependents);
            for (int i = 0; i < words.Length; i++) words[i] &= ~orphans[i];
        }
    }

    /// <summary>What a feature needs and these lack; null: nothing.</summary>
    public static string? Lacking(uint[] words, CpuidWord word, int bit)
    {
        foreach ((string dependents, string needed) in Dependencies)
            if ((Parse(dependents)[(int)word] >> bit & 1) != 0 && TryFind(needed, out CpuidWord other, out int at) && (words[(int)other] >> at & 1) == 0) return needed;
        return null;
    }

    /// <summary>What the host's kernel has not enabled the registers for, or what the thunks cannot do without.</summary>
    static void TakeUnusable(uint[] host)
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
        TakeOrphans(host);
    }
}
