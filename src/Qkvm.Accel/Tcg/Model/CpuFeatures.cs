using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>The registers of CPUID that hold feature bits.</summary>
public enum CpuidWord { Leaf1Edx, Leaf1Ecx, Leaf7Ebx, Leaf7Ecx, Leaf7Edx, Leaf80000001Edx, Leaf80000001Ecx,
    Leaf80000007Edx, Leaf80000008Ebx, LeafD1Eax, Leaf6Eax, Leaf71Eax, Kvm, Leaf80000021Eax,
    Leaf8000000AEdx, Count }

/// <summary>Feature bits by QEMU's names. Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E.</summary>
public static partial class CpuFeatures
{
    /// <summary>Per word the names of bits 0 to 31; "a|b" has two, "" none.</summary>
    static readonly string[][] Names =
    [
        ["fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca", "cmov",
            "pat", "pse36", "pn", "clflush", "", "ds", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64",
                "pbe"],
        ["pni|sse3", "pclmulqdq|pclmuldq", "dtes64", "monitor", "ds-cpl", "vmx", "smx", "est", "tm2", "ssse3", "cid",
            "", "fma", "cx16", "xtpr", "pdcm",
            "", "pcid", "dca", "sse4.1|sse4-1|sse4_1", "sse4.2|sse4-2|sse4_2", "x2apic", "movbe", "popcnt",
                "tsc-deadline", "aes", "xsave", "", "avx", "f16c", "rdrand", "hypervisor"],
        ["fsgsbase", "tsc-adjust|tsc_adjust", "sgx", "bmi1", "hle", "avx2", "", "smep", "bmi2", "erms", "invpcid",
            "rtm", "", "", "mpx", "",
            "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", "pcommit", "clflushopt", "clwb", "intel-pt",
                "avx512pf", "avx512er", "avx512cd", "sha-ni", "avx512bw", "avx512vl"],
        ["", "avx512vbmi", "umip", "pku", "", "waitpkg", "avx512vbmi2", "", "gfni", "vaes", "vpclmulqdq", "avx512vnni",
            "avx512bitalg", "", "avx512-vpopcntdq", "",
            "la57", "", "", "", "", "", "rdpid", "", "bus-lock-detect", "cldemote", "", "movdiri", "movdir64b", "",
                "sgxlc", "pks"],
        ["", "", "avx512-4vnniw", "avx512-4fmaps", "fsrm", "", "", "", "avx512-vp2intersect", "", "md-clear", "", "",
            "", "serialize", "",
            "tsx-ldtrk", "", "", "arch-lbr", "", "", "amx-bf16", "avx512-fp16", "amx-tile", "amx-int8", "spec-ctrl",
                "stibp", "", "arch-capabilities", "core-capability", "ssbd"],
        ["", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "", "", "", "", "", "nx|xd", "", "mmxext",
            "", "", "fxsr-opt|ffxsr|fxsr_opt", "pdpe1gb",
            "rdtscp", "", "lm|i64", "3dnowext", "3dnow"],
        ["lahf-lm|lahf_lm", "cmp-legacy", "svm", "extapic", "cr8legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch",
            "osvw", "ibs", "xop", "skinit", "wdt", "", "lwp",
            "fma4", "tce", "", "nodeid-msr", "", "tbm", "topoext", "perfctr-core", "perfctr-nb", "", "", "", "", "",
                "", ""],
        ["", "", "", "", "", "", "", "", "invtsc", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
            "", "", "", "", "", ""],
        ["clzero", "", "xsaveerptr", "", "", "", "", "", "", "wbnoinvd", "", "", "ibpb", "", "ibrs", "amd-stibp",
            "", "", "", "", "", "", "", "", "amd-ssbd", "virt-ssbd", "amd-no-ssb", "", "", "", "", ""],
        ["xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
            "", "", "", "", "", "", "", "", "", "", "", ""],
        ["", "", "arat", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
            "", "", "", "", ""],
        ["", "", "", "", "avx-vnni", "avx512-bf16", "", "", "", "", "fzrm", "fsrs", "fsrc", "", "", "", "", "", "", "",
            "", "amx-fp16", "", "avx-ifma", "", "",
            "lam", "", "", "", "", ""],
        ["kvmclock", "kvm-nopiodelay|kvm_nopiodelay", "kvm-mmu|kvm_mmu", "", "kvm-asyncpf|kvm_asyncpf",
            "kvm-steal-time|kvm_steal_time", "kvm-pv-eoi|kvm_pv_eoi",
            "kvm-pv-unhalt|kvm_pv_unhalt", "", "kvm-pv-tlb-flush", "kvm-asyncpf-vmexit", "kvm-pv-ipi",
                "kvm-poll-control|kvm_poll_control", "kvm-pv-sched-yield",
            "kvm-asyncpf-int|kvm_asyncpf_int", "kvm-msi-ext-dest-id", "", "", "", "", "", "", "", "",
                "kvmclock-stable-bit", "", "", "", "", "", "", ""],
        ["no-nested-data-bp", "", "lfence-always-serializing", "", "", "", "null-sel-clr-base", "", "auto-ibrs", "", "",
            "", "", "", "", "",
            "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", ""],
        ["npt", "lbrv", "svm-lock|svm_lock", "nrip-save|nrip_save", "tsc-scale|tsc_scale", "vmcb-clean|vmcb_clean",
            "flushbyasid", "decodeassists", "", "", "pause-filter|pause_filter", "", "pfthreshold", "avic", "",
                "v-vmsave-vmload",
            "vgif", "", "", "", "", "", "", "", "", "", "", "", "svme-addr-chk", "", "", ""],
    ];

    static readonly Dictionary<string, (CpuidWord Word, int Bit)> s_places = Places();

    /// <summary>What the interpreter does by itself, on any host.</summary>
    const string Own = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr " +
        "sse sse2 ss ht "
        + "monitor pcid x2apic movbe popcnt tsc-deadline xsave rdrand hypervisor "
        + "fsgsbase tsc-adjust bmi1 smep bmi2 erms invpcid rdseed adx smap clflushopt clwb umip pku pks la57 rdpid " +
        "movdiri fsrm lam serialize "
        + "syscall nx pdpe1gb rdtscp lm lahf-lm cmp-legacy cr8legacy abm 3dnowprefetch invtsc clzero wbnoinvd " +
        "xsaveopt xsavec xgetbv1 xsaves arat mmxext fxsr-opt sse4a misalignsse osvw topoext hle rtm cldemote " +
        "movdir64b acpi xsaveerptr 3dnow 3dnowext "
        + Immunity + " " + KvmDefaults + " " + OnRequest;

    /// <summary>In no model, "max" among them, unless -cpu says so: few guests want to be hosts.</summary>
    const string OnRequest = "svm " + OfSvm;

    /// <summary>What comes with svm: each of these has to be switched off by itself.</summary>
    public const string OfSvm = "npt nrip-save vmcb-clean flushbyasid decodeassists pause-filter pfthreshold";

    /// <summary>Nothing runs speculatively here that a guest could learn from; guests that are told spare themselves
    /// precautions, of which those around each indirect call cost most.</summary>
    const string Immunity = "auto-ibrs lfence-always-serializing null-sel-clr-base no-nested-data-bp amd-no-ssb";

    /// <summary>Shown with kvm=on. A port needs no delay; interrupts and locks have their short ways.</summary>
    public const string KvmDefaults = "kvmclock kvm-nopiodelay kvm-pv-eoi kvm-pv-unhalt kvmclock-stable-bit";

    /// <summary>Features that are nothing without another.</summary>
    static readonly (string Needed, string Dependent)[] s_dependencies =
    [
        ("pae", "lm nx pdpe1gb"), ("mmx", "mmxext 3dnow"), ("3dnow", "3dnowext"), ("fxsr", "sse fxsr-opt"),
            ("sse", "sse2 misalignsse"), ("sse2", "pni sse4a pclmulqdq aes sha-ni gfni"),
            ("pni", "ssse3"), ("ssse3", "sse4.1"), ("sse4.1", "sse4.2"),
        ("xsave", "avx xsaveopt xsavec xgetbv1 xsaves pku"), ("avx", "avx2 fma f16c vaes vpclmulqdq avx-vnni avx-ifma"),
        ("avx2", "avx512f"), ("avx512f", OfAvx512), ("avx512bw", "avx512vbmi avx512vbmi2 avx512bitalg avx512-fp16"),
        ("lm", "pcid la57 fsgsbase lam pku pks cx16"), ("apic", "x2apic tsc-deadline arat"),
        ("kvmclock", "kvmclock-stable-bit"), ("svm", OfSvm),
    ];

    const string OfAvx512 = "avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 avx512vnni " +
        "avx512bitalg avx512-vpopcntdq "
        + "avx512-vp2intersect avx512-bf16 avx512-fp16";

    /// <summary>What the host's own instructions are needed for.</summary>
    const string OfHost = "pni ssse3 sse4.1 sse4.2 pclmulqdq aes avx fma f16c avx2 sha-ni gfni vaes vpclmulqdq " +
        "avx-vnni cx16 avx512f " + OfAvx512;

    /// <summary>Of our own, but only as fast as guests expect where the host's instruction can be copied: elsewhere not
    /// part of "max".</summary>
    internal const string Copied = "movbe popcnt bmi1 bmi2 abm adx lahf-lm";

    /// <summary>Supported, but not part of "max": what guests gain nothing from.</summary>
    const string Reserved =
        "cmp-legacy ht acpi fxsr-opt misalignsse osvw topoext hle rtm cldemote xsaveerptr 3dnow 3dnowext";

    /// <summary>All that can be switched on; the words of KVM's leaf count where it is shown.</summary>
    public static uint[] Supported() => Supported(HostWords());

    static uint[] Supported(uint[] host)
    {
        uint[] words = Parse(Own), wanted = Parse(OfHost);
        for (int i = 0; i < words.Length; i++) words[i] |= host[i] & wanted[i];
        return words;
    }

    public static uint[] Maximum() => Maximum(HostWords());

    static uint[] Maximum(uint[] host)
    {
        uint[] words = Supported(host), reserved = Parse($"{Reserved} {OnRequest}"), copied = Parse(Copied);
        for (int i = 0; i < words.Length; i++) words[i] &= ~reserved[i] & ~(copied[i] & ~host[i]);
        return words;
    }

    /// <summary>The same on a host that has everything.</summary>
    internal static (uint[] Supported, uint[] Maximum) Most()
    {
        uint[] host = Parse($"{OfHost} {Copied}");
        return (Supported(host), Maximum(host));
    }

    public static bool TryFind(string name, out CpuidWord word, out int bit)
    {
        bool isKnown = s_places.TryGetValue(name, out (CpuidWord Word, int Bit) place);
        (word, bit) = place;
        return isKnown || name.Contains('_', StringComparison.Ordinal)
            && TryFind(name.Replace('_', '-'), out word, out bit);
    }

    static Dictionary<string, (CpuidWord Word, int Bit)> Places()
    {
        var places = new Dictionary<string, (CpuidWord Word, int Bit)>();
        for (int word = 0; word < Names.Length; word++)
            for (int bit = 0; bit < 32; bit++)
                foreach (string name in Names[word][bit].Split('|', StringSplitOptions.RemoveEmptyEntries))
                    places.Add(name, ((CpuidWord)word, bit));
        return places;
    }

    public static string NameOf(CpuidWord word, int bit) => Names[(int)word][bit].Split('|')[0];

    /// <summary>Clears what needs something else that is clear, and names it.</summary>
    public static IReadOnlyList<string> DropDependent(uint[] words)
    {
        var dropped = new List<string>();
        foreach (var (needed, dependent) in s_dependencies)
        {
            if (Has(words, needed)) continue;
            foreach (string name in dependent.Split(' '))
                if (Has(words, name) && TryFind(name, out CpuidWord word, out int bit))
                {
                    words[(int)word] &= ~(1u << bit);
                    dropped.Add(name);
                }
        }
        return dropped;
    }

    static bool Has(uint[] words, string name) => TryFind(name, out CpuidWord word, out int bit)
        && (words[(int)word] >> bit & 1) != 0;

    /// <summary>Every first name, sorted.</summary>
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
            if (!TryFind(name, out CpuidWord word, out int bit))
                throw new ArgumentException($"no CPU feature '{name}'");
            words[(int)word] |= 1u << bit;
        }
        return words;
    }

    /// <summary>What of the host's features can be used here: AVX-512 is nothing where parts are missing that thunks
    /// cannot do without.</summary>
    static uint[] HostWords()
    {
        bool hasAvx512 = Array.TrueForAll("avx512f avx512dq avx512cd avx512bw avx512vl".Split(' '),
            HostFeatures.Current.Has);
        string[] without = hasAvx512 ? [] : $"avx512f {OfAvx512}".Split(' ');
        return Parse(string.Join(' ', HostFeatures.All.Where(name => HostFeatures.Current.Has(name)
            && Array.IndexOf(without, name) < 0)));
    }
}
