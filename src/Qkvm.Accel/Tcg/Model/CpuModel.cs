using Qkvm.Core.Accel;
using Qkvm.Core.Devices;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>One of -cpu's models: identity and features. What the interpreter lacks of these is left out.</summary>
/// <param name="Level">Highest basic leaf of CPUID.</param>
/// <param name="ExtendedLevel">Highest extended leaf.</param>
public sealed record CpuModel(string Name, string Vendor, string Text, int Family, int Model, int Stepping, uint Level, uint ExtendedLevel, string Features)
{
    public const string Amd = "AuthenticAMD", Intel = "GenuineIntel";

    /// <summary>Leaf 1 EAX: extended family, extended model, family, model, stepping.</summary>
    public uint Signature
    {
        get
        {
            int family = Math.Min(Family, 15);
            return (uint)((Family - family) << 20 | Model >> 4 << 16 | family << 8 | (Model & 15) << 4 | Stepping);
        }
    }
}

/// <summary>The models that -cpu names.</summary>
public static class CpuModels
{
    /// <summary>Identity of "max" and "host" too.</summary>
    const string Default = "qemu64";

    public static IReadOnlyList<CpuModel> All { get; } =
    [
        new("qemu32", "GenuineIntel", "QEMU Virtual CPU version 2.5+", 6, 6, 3, 0x4, 0x80000004u,
            "fpu de pse tsc msr pae mce cx8 apic sep pge cmov pat mmx fxsr sse sse2 pni hypervisor"),
        new("qemu64", "AuthenticAMD", "QEMU Virtual CPU version 2.5+", 15, 107, 1, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "cx16 hypervisor syscall nx lm lahf-lm svm"),
        new("kvm64", "GenuineIntel", "Common KVM processor", 15, 6, 1, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "cx16 hypervisor syscall nx lm"),
        new("core2duo", "GenuineIntel", "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz", 6, 15, 11, 0xa, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush acpi mmx fxsr sse sse2 "
            + "ss pni monitor ssse3 cx16 hypervisor syscall nx lm lahf-lm"),
        new("Conroe", "GenuineIntel", "Intel Celeron_4x0 (Conroe/Merom Class Core 2)", 6, 15, 3, 0xa, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "ssse3 hypervisor syscall nx lm lahf-lm"),
        new("Penryn", "GenuineIntel", "Intel Core 2 Duo P9xxx (Penryn Class Core 2)", 6, 23, 3, 0xa, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "ssse3 cx16 sse4.1 hypervisor syscall nx lm lahf-lm"),
        new("Opteron_G1", "AuthenticAMD", "AMD Opteron 240 (Gen 1 Class Opteron)", 15, 6, 1, 0x5, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "hypervisor syscall nx lm"),
        new("Nehalem", "GenuineIntel", "Intel Core i7 9xx (Nehalem Class Core i7)", 6, 26, 3, 0xb, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "ssse3 cx16 sse4.1 sse4.2 popcnt hypervisor syscall nx lm lahf-lm"),
        new("Westmere", "GenuineIntel", "Westmere E56xx/L56xx/X56xx (Nehalem-C)", 6, 44, 1, 0xb, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 cx16 sse4.1 sse4.2 popcnt aes hypervisor syscall nx lm lahf-lm arat"),
        new("SandyBridge", "GenuineIntel", "Intel Xeon E312xx (Sandy Bridge)", 6, 42, 1, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx hypervisor syscall nx "
            + "rdtscp lm lahf-lm xsaveopt arat"),
        new("IvyBridge", "GenuineIntel", "Intel Xeon E3-12xx v2 (Ivy Bridge)", 6, 58, 9, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline aes xsave avx f16c rdrand hypervisor "
            + "fsgsbase smep erms syscall nx rdtscp lm lahf-lm xsaveopt arat"),
        new("Haswell", "GenuineIntel", "Intel Core Processor (Haswell)", 6, 60, 4, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c "
            + "rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm syscall nx rdtscp lm lahf-lm abm "
            + "xsaveopt arat"),
        new("Haswell-noTSX", "GenuineIntel", "Intel Core Processor (Haswell, no TSX)", 6, 60, 1, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c "
            + "rdrand hypervisor fsgsbase bmi1 avx2 smep bmi2 erms invpcid syscall nx rdtscp lm lahf-lm abm "
            + "xsaveopt arat"),
        new("Broadwell", "GenuineIntel", "Intel Core Processor (Broadwell)", 6, 61, 2, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c "
            + "rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap syscall nx "
            + "rdtscp lm lahf-lm abm 3dnowprefetch xsaveopt arat"),
        new("Skylake-Client", "GenuineIntel", "Intel Core Processor (Skylake)", 6, 94, 3, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq ssse3 fma cx16 pcid sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave avx f16c "
            + "rdrand hypervisor fsgsbase bmi1 hle avx2 smep bmi2 erms invpcid rtm rdseed adx smap syscall nx "
            + "rdtscp lm lahf-lm abm 3dnowprefetch xsaveopt xsavec xgetbv1 arat"),
        new("EPYC", "AuthenticAMD", "AMD EPYC Processor", 23, 1, 2, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor "
            + "fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha-ni syscall nx mmxext fxsr-opt pdpe1gb "
            + "rdtscp lm lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext xsaveopt xsavec "
            + "xgetbv1 arat"),
        new("EPYC-Rome", "AuthenticAMD", "AMD EPYC-Rome Processor", 23, 49, 0, 0xd, 0x80000008u,
            "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni "
            + "pclmulqdq monitor ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand hypervisor "
            + "fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt clwb sha-ni umip rdpid syscall nx mmxext "
            + "fxsr-opt pdpe1gb rdtscp lm lahf-lm svm cr8legacy abm sse4a misalignsse 3dnowprefetch osvw topoext "
            + "perfctr-core clzero xsaveerptr wbnoinvd ibpb amd-stibp xsaveopt xsavec xgetbv1 xsaves arat"),
        new("max", CpuModel.Amd, "QEMU TCG CPU version 2.5+", 15, 107, 1, 0xd, 0x80000008u, ""),
        new("host", CpuModel.Amd, "QEMU TCG CPU version 2.5+", 15, 107, 1, 0xd, 0x80000008u, ""),
    ];

    /// <summary>-cpu help.</summary>
    public static string Help()
    {
        var text = new System.Text.StringBuilder("Available CPUs:\n");
        foreach (CpuModel model in All.OrderBy(model => model.Name, StringComparer.Ordinal))
            text.Append("x86 ").Append(model.Name.PadRight(20)).Append("  ").Append(Describe(model)).Append('\n');
        text.Append("\nRecognized CPUID flags:\n");
        int column = 0;
        foreach (string name in CpuFeatures.All())
        {
            if (column > 0 && column + name.Length + 1 > 75) { text.Append('\n'); column = 0; }
            text.Append(column == 0 ? "  " : " ").Append(name);
            column += name.Length + (column == 0 ? 2 : 1);
        }
        return text.Append('\n').ToString();
    }

    static string Describe(CpuModel model) => model.Name switch
    {
        "max" => "Enables all features supported by the accelerator in the current host",
        "host" => "the same as max",
        _ => model.Text,
    };

    /// <summary>What one vCPU shows, or a <see cref="ConfigurationException"/> that names -cpu.</summary>
    public static Cpuid Resolve(CpuSetup setup)
    {
        string name = setup.Model.Length == 0 ? Default : setup.Model;
        CpuModel model = All.FirstOrDefault(m => m.Name == name || m.Name + "-v1" == name)
            ?? throw new ConfigurationException($"-cpu: unable to find CPU model '{name}'{Suggest(name, All.Select(m => m.Name))}; -cpu help lists them");
        bool all = model.Name is "max" or "host";
        uint[] supported = CpuFeatures.Supported(), words = all ? CpuFeatures.Maximum() : CpuFeatures.Parse(model.Features);
        for (int i = 0; i < words.Length; i++) words[i] &= supported[i];
        var missing = new List<string>();
        foreach ((string feature, bool on) in setup.Features)
        {
            if (!CpuFeatures.TryFind(feature, out CpuidWord word, out int bit))
                throw new ConfigurationException($"-cpu {name}: there is no feature '{feature}'{Suggest(feature, CpuFeatures.All())}; -cpu help lists them");
            uint mask = 1u << bit;
            if (!on) words[(int)word] &= ~mask;
            else if ((supported[(int)word] & mask) != 0) words[(int)word] |= mask;
            else missing.Add(feature);
        }
        CpuFeatures.TakeOrphans(words);
        foreach ((string feature, bool on) in setup.Features)
            if (on && !missing.Contains(feature) && CpuFeatures.TryFind(feature, out CpuidWord word, out int bit) && (words[(int)word] >> bit & 1) == 0
                && CpuFeatures.Lacking(words, word, bit) is { } needed) missing.Add($"{feature} (without {needed})");
        return new Cpuid(model, words, setup) { Missing = missing };
    }

    /// <summary>The nearest known word, as a question; nothing if none is near.</summary>
    static string Suggest(string wrong, IEnumerable<string> known)
    {
        string? best = known.MinBy(candidate => Distance(wrong.ToLowerInvariant(), candidate.ToLowerInvariant()));
        return best != null && Distance(wrong.ToLowerInvariant(), best.ToLowerInvariant()) <= Math.Max(2, wrong.Length / 3) ? $", did you mean '{best}'?" : "";
    }

    /// <summary>Levenshtein's.</summary>
    static int Distance(string a, string b)
    {
        var row = new int[b.Length + 1];
        for (int j = 0; j <= b.Length; j++) row[j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int above = row[j];
                row[j] = Math.Min(Math.Min(above, row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
                diagonal = above;
            }
        }
        return row[b.Length];
    }
}
