using System.Runtime.Intrinsics.X86;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>The registers of CPUID that hold feature bits.</summary>
public enum CpuidWord { Leaf1Edx, Leaf1Ecx, Leaf7Ebx, Leaf7Ecx, Leaf7Edx, Leaf80000001Edx, Leaf80000001Ecx, Leaf80000007Edx, Leaf80000008Ebx, LeafD1Eax, Leaf6Eax, Leaf71Eax, Count }

/// <summary>Feature bits by QEMU's names. Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E.</summary>
public static partial class CpuFeatures
{
    /// <summary>Per word the names of bits 0 to 31; "a|b" has two, "" none.</summary>
    static readonly string[][] Names =
    [
        ["fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca", "cmov",
            "pat", "pse36", "pn", "clflush", "", "ds", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe"],
        ["pni|sse3", "pclmulqdq|pclmuldq", "dtes64", "monitor", "ds-cpl", "vmx", "smx", "est", "tm2", "ssse3", "cid", "", "fma", "cx16", "xtpr", "pdcm",
            "", "pcid", "dca", "sse4.1|sse4-1|sse4_1", "sse4.2|sse4-2|sse4_2", "x2apic", "movbe", "popcnt", "tsc-deadline", "aes", "xsave", "", "avx", "f16c", "rdrand", "hypervisor"],
        ["fsgsbase", "tsc-adjust|tsc_adjust", "sgx", "bmi1", "hle", "avx2", "", "smep", "bmi2", "erms", "invpcid", "rtm", "", "", "mpx", "",
            "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", "pcommit", "clflushopt", "clwb", "intel-pt", "avx512pf", "avx512er", "avx512cd", "sha-ni", "avx512bw", "avx512vl"],
        ["", "avx512vbmi", "umip", "pku", "", "waitpkg", "avx512vbmi2", "", "gfni", "vaes", "vpclmulqdq", "avx512vnni", "avx512bitalg", "", "avx512-vpopcntdq", "",
            "la57", "", "", "", "", "", "rdpid", "", "bus-lock-detect", "cldemote", "", "movdiri", "movdir64b", "", "sgxlc", "pks"],
        ["", "", "avx512-4vnniw", "avx512-4fmaps", "fsrm", "", "", "", "avx512-vp2intersect", "", "md-clear", "", "", "", "serialize", "",
            "tsx-ldtrk", "", "", "arch-lbr", "", "", "amx-bf16", "avx512-fp16", "amx-tile", "amx-int8", "spec-ctrl", "stibp", "", "arch-capabilities", "core-capability", "ssbd"],
        ["", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "", "", "", "", "", "nx|xd", "", "mmxext", "", "", "fxsr-opt|ffxsr|fxsr_opt", "pdpe1gb",
            "rdtscp", "", "lm|i64", "3dnowext", "3dnow"],
        ["lahf-lm|lahf_lm", "cmp-legacy", "svm", "extapic", "cr8legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch", "osvw", "ibs", "xop", "skinit", "wdt", "", "lwp",
            "fma4", "tce", "", "nodeid-msr", "", "tbm", "topoext", "perfctr-core", "perfctr-nb", "", "", "", "", "", "", ""],
        ["", "", "", "", "", "", "", "", "invtsc", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""],
        ["clzero", "", "xsaveerptr", "", "", "", "", "", "", "wbnoinvd", "", "", "ibpb", "", "ibrs", "amd-stibp",
            "", "", "", "", "", "", "", "", "amd-ssbd", "virt-ssbd", "amd-no-ssb", "", "", "", "", ""],
        ["xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""],
        ["", "", "arat", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""],
        ["", "", "", "", "avx-vnni", "avx512-bf16", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""],
    ];

    /// <summary>What the interpreter does by itself, on any host.</summary>
    const string Own = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss ht "
        + "cx16 pcid x2apic movbe popcnt tsc-deadline xsave rdrand hypervisor pni "
        + "fsgsbase tsc-adjust bmi1 smep bmi2 erms invpcid rdseed adx smap clflushopt clwb umip pku la57 rdpid movdiri fsrm "
        + "syscall nx pdpe1gb rdtscp lm lahf-lm cmp-legacy cr8legacy abm 3dnowprefetch invtsc clzero wbnoinvd xsaveopt xsavec xgetbv1 xsaves arat";

    /// <summary>What the host's own instructions are needed for.</summary>
    const string OfHost = "ssse3 sse4.1 sse4.2 pclmulqdq aes avx fma f16c avx2 sha-ni gfni vaes vpclmulqdq avx-vnni avx512f " + OfAvx512;

    /// <summary>Supported, but not part of "max": what guests gain nothing from, or what stops migration.</summary>
    const string Reserved = "invtsc cmp-legacy ht";

    public static uint[] Supported()
    {
        uint[] words = Parse(Own);
        uint[] host = HostWords(), wanted = Parse(OfHost);
        for (int i = 0; i < words.Length; i++) words[i] |= host[i] & wanted[i];
        return words;
    }

    public static uint[] Maximum()
    {
        uint[] words = Supported(), reserved = Parse(Reserved);
        for (int i = 0; i < words.Length; i++) words[i] &= ~reserved[i];
        return words;
    }

    public static bool TryFind(string name, out CpuidWord word, out int bit)
    {
        for (word = 0; word < CpuidWord.Count; word++)
            for (bit = 0; bit < 32; bit++)
                if (Array.IndexOf(Names[(int)word][bit].Split('|'), name) >= 0 && name.Length > 0) return true;
        bit = 0;
        if (name.Contains('_', StringComparison.Ordinal)) return TryFind(name.Replace('_', '-'), out word, out bit);
        return false;
    }

    /// <summary>Every first name, sorted: `-cpu help`.</summary>
    public static string[] All()
    {
        var names = new SortedSet<string>(StringComparer.Ordinal);
        foreach (string[] word in Names)
            foreach (string name in word)
                if (name.Length > 0) names.Add(name.Split('|')[0]);
        return [.. names];
    }

    /// <summary>Names separated by spaces.</summary>
    public static uint[] Parse(string names)
    {
        var words = new uint[(int)CpuidWord.Count];
        foreach (string name in names.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            if (!TryFind(name, out CpuidWord word, out int bit)) throw new ArgumentException($"no CPU feature '{name}'");
            words[(int)word] |= 1u << bit;
        }
        return words;
    }

    static uint[] HostWords()
    {
        var words = new uint[(int)CpuidWord.Count];
        (_, _, int ecx, int edx) = X86Base.CpuId(1, 0);
        (words[(int)CpuidWord.Leaf1Ecx], words[(int)CpuidWord.Leaf1Edx]) = ((uint)ecx, (uint)edx);
        if (X86Base.CpuId(0, 0).Eax >= 7)
        {
            (int subleaves, int ebx, ecx, edx) = X86Base.CpuId(7, 0);
            if (subleaves >= 1) words[(int)CpuidWord.Leaf71Eax] = (uint)X86Base.CpuId(7, 1).Eax;
            (words[(int)CpuidWord.Leaf7Ebx], words[(int)CpuidWord.Leaf7Ecx], words[(int)CpuidWord.Leaf7Edx]) = ((uint)ebx, (uint)ecx, (uint)edx);
        }
        TakeUnusable(words);
        return words;
    }
}
