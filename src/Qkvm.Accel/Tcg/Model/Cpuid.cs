using System.Text;
using Iced.Intel;
using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>The four registers that CPUID returns.</summary>
public readonly record struct CpuidResult(uint Eax, uint Ebx, uint Ecx, uint Edx);

/// <summary>What CPUID shows on one vCPU: a model with its features switched, in a place of the topology.</summary>
public sealed partial class Cpuid(CpuModel model, uint[] words, CpuSetup setup, CpuidExtras extras)
{
    const uint Hypervisor = 0x40000000, Extended = 0x80000000;
    const uint LegacyXsave = 576;
    const int CacheLine = 64;

    /// <summary>QEMU's.</summary>
    const uint SvmRevision = 1, SvmAsids = 16;

    public CpuModel Model { get; } = model;

    /// <summary>Features that were asked for and do not exist here.</summary>
    public IReadOnlyList<string> Missing { get; init; } = [];

    /// <summary>-cpu said level=, xlevel=: no feature raises them.</summary>
    public bool IsLevelFixed { get; init; }
    public bool IsExtendedLevelFixed { get; init; }

    /// <summary>KVM's leaves, registers and hypercalls are there.</summary>
    public bool HasKvm => extras.Kvm;

    public HyperV HyperV => extras.HyperV;
    public ulong TscHertz => extras.TscHertz;
    public ulong? MicrocodeRevision => extras.MicrocodeRevision;

    public int PhysicalBits => setup.PhysicalAddressBits;
    public int ApicId => setup.ApicId;
    public uint Signature => Model.Signature;

    public bool Has(CpuidWord word, int bit) => (words[(int)word] >> bit & 1) != 0;

    /// <summary>By QEMU's name.</summary>
    public bool Has(string feature) => CpuFeatures.TryFind(feature, out CpuidWord word, out int bit) && Has(word, bit);

    /// <summary>Bits of XCR0 that may be set.</summary>
    public ulong Xcr0Mask => !Has("xsave") ? 0
        : (Has("avx") ? 7u : 3u) | (Has("avx512f") ? Avx512 : 0u) | (Has("pku") ? Pkru : 0u);

    uint this[CpuidWord word] => words[(int)word];

    /// <summary>Leaf and subleaf; OSXSAVE, OSPKE and the XSAVE size follow the guest's CR4 and XCR0.</summary>
    public CpuidResult Query(uint leaf, uint subleaf, ulong cr4, ulong xcr0, ulong apicBase)
    {
        uint level = Level, extendedLevel = ExtendedLevel;
        uint limit = leaf >= Extended ? extendedLevel
            : leaf >= KvmBase && HasKvm ? KvmLevel : leaf >= Hypervisor ? HypervisorLevel : level;
        if (leaf > limit) leaf = level;
        switch (leaf)
        {
            case 0: return Text(level, Model.Vendor, 0, 8, 4);
            case 1: return Features(cr4, apicBase);
            case 2: return Descriptors();
            case 4: return Cache(subleaf);
            case 5: return Has("monitor") ? new(CacheLine, CacheLine, MonitorExtensions, 0) : default;
            case 6: return new(this[CpuidWord.Leaf6Eax], 0, 0, 0);
            case 7 when subleaf == 0:
                return new(SevenLimit, this[CpuidWord.Leaf7Ebx],
                    this[CpuidWord.Leaf7Ecx] | ((cr4 & Tcg.Cr4.Pke) != 0 ? 0x10u : 0),
                    this[CpuidWord.Leaf7Edx]);
            case 7 when subleaf == 1 && SevenLimit != 0: return new(this[CpuidWord.Leaf71Eax], 0, 0, 0);
            case 0xB when extras.HasTopology: return Topology(subleaf);
            case 0x1F when HasDies: return TopologyWithDies(subleaf);
            case 0xD: return XsaveArea(subleaf, xcr0);
            case 0x15: return Crystal();
            case 0x16: return new((uint)(TscHertz / 1_000_000), (uint)(TscHertz / 1_000_000), BusMegahertz, 0);
            case Hypervisor or Hypervisor + HyperV.KvmDistance when HasKvm && leaf == KvmBase:
                return Text(KvmLevel, "KVMKVMKVM\0\0\0", 0, 4, 8);
            case Hypervisor + 1 or Hypervisor + HyperV.KvmDistance + 1 when HasKvm && leaf == KvmBase + 1:
                return new(KvmFeatures, 0, 0, 0);
            case Hypervisor + 0x10 when HasKvm && !HyperV.IsOn:
                return new((uint)(TscHertz / 1000), (uint)(TimerHertz / 1000), 0, 0);
            case >= Hypervisor and < Hypervisor + HyperV.KvmDistance when HyperV.IsOn: return HyperV.Query(leaf);
            case Hypervisor when extras.ShowsTcg: return Text(Hypervisor + 1, "TCGTCGTCGTCG", 0, 4, 8);
            case Extended: return Text(extendedLevel, Model.Vendor, 0, 8, 4);
            case Extended + 1:
                // AMD repeats the common bits of leaf 1.
                uint common = Model.IsAmd ? this[CpuidWord.Leaf1Edx] & 0x0183F3FF : 0;
                uint legacy = LogicalPerPackage > 1 && Model.IsAmd ? 2u : 0;
                return new(Signature, 0, this[CpuidWord.Leaf80000001Ecx] | legacy,
                    this[CpuidWord.Leaf80000001Edx] | common);
            case Extended + 2 or Extended + 3 or Extended
                + 4: return Text(Model.Text.PadRight(48, '\0'), (int)(leaf - Extended - 2) * 16);
            case Extended + 5: return FirstLevel();
            case Extended + 6: return OtherLevels();
            case Extended + 7: return new(0, 0, 0, this[CpuidWord.Leaf80000007Edx]);
            case Extended + 0xA when Has("svm"):
                return new(SvmRevision, SvmAsids, 0, this[CpuidWord.Leaf8000000AEdx]);
            case Extended + 0x1D when Has("topoext"): return AmdCache(subleaf);
            case Extended + 0x1E when Has("topoext"): return Node();
            case Extended + 0x21: return new(this[CpuidWord.Leaf80000021Eax], 0, 0, 0);
            case Extended + 8:
                uint cores = LogicalPerPackage > 1
                    ? (uint)(PackageBits << 12 | Math.Min(LogicalPerPackage - 1, byte.MaxValue)) : 0;
                return new(AddressBits, this[CpuidWord.Leaf80000008Ebx], cores, 0);
            default: return default;
        }
    }

    /// <summary>Physical bits, and the linear ones in the next byte: 32-bit processors say no more than that they have
    /// 32 or, with PSE-36, 36 physical ones.</summary>
    uint AddressBits => !Has("lm") ? Has("pse36") ? 36u : 32u
        : (uint)PhysicalBits | (Has("la57") ? 57u : 48u) << 8;

    /// <summary>Highest basic leaf: the model's, or that of the highest feature.</summary>
    uint Level
    {
        get
        {
            if (IsLevelFixed) return Model.Level;
            uint wanted = HasDies ? 0x1Fu : Has("xsave") ? 0xDu
                : (this[CpuidWord.Leaf7Ebx] | this[CpuidWord.Leaf7Ecx] | this[CpuidWord.Leaf7Edx]
                | this[CpuidWord.Leaf71Eax]) != 0 ? 7u
                : this[CpuidWord.Leaf6Eax] != 0 ? 6u : Has("monitor") ? 5u : 0u;
            return Math.Max(Model.Level, wanted);
        }
    }

    uint SevenLimit => extras.SevenLimit ?? (this[CpuidWord.Leaf71Eax] != 0 ? 1u : 0);

    uint ExtendedLevel
    {
        get
        {
            if (IsExtendedLevelFixed) return Model.ExtendedLevel;
            uint wanted = this[CpuidWord.Leaf80000021Eax] != 0 ? 0x21u : Has("topoext") ? 0x1Eu
                : Has("svm") ? 0xAu
                : this[CpuidWord.Leaf80000008Ebx] != 0 ? 8u : this[CpuidWord.Leaf80000007Edx] != 0 ? 7u
                : (this[CpuidWord.Leaf80000001Edx] | this[CpuidWord.Leaf80000001Ecx]) != 0 ? 1u : 0u;
            return wanted == 0 ? Model.ExtendedLevel : Math.Max(Model.ExtendedLevel, Extended + wanted);
        }
    }

    uint HypervisorLevel => HyperV.IsOn ? HyperV.Limit : HasKvm ? KvmLevel : Hypervisor + 1;

    /// <summary>Where KVM's leaves begin.</summary>
    internal uint KvmBase => HyperV.IsOn ? Hypervisor + HyperV.KvmDistance : Hypervisor;

    uint KvmLevel => extras.HasFrequencies && !HyperV.IsOn ? KvmBase + 0x10 : KvmBase + 1;

    /// <summary>Bit 3 says that the clock has its newer registers too.</summary>
    uint KvmFeatures => this[CpuidWord.Kvm] | (this[CpuidWord.Kvm] & 1) << 3;

    /// <summary>MWAIT's extensions are enumerated, and interrupts wake it though they are masked. No substates: guests
    /// prefer HLT.</summary>
    const uint MonitorExtensions = 3;
    const uint BusMegahertz = 100;

    /// <summary>What the local APIC's timer counts by.</summary>
    internal const ulong TimerHertz = 1_000_000_000;

    /// <summary>TSC : crystal = EBX : EAX. Linux takes the crystal for the local APIC's clock too.</summary>
    CpuidResult Crystal()
    {
        ulong common = TimerHertz, rest = TscHertz;
        while (rest != 0) (common, rest) = (rest, common % rest);
        return new((uint)(TimerHertz / common), (uint)(TscHertz / common), (uint)TimerHertz, 0);
    }

    CpuidResult Features(ulong cr4, ulong apicBase)
    {
        const uint Apic = 1 << 9, Htt = 1 << 28, Osxsave = 1 << 27;
        uint edx = this[CpuidWord.Leaf1Edx], ecx = this[CpuidWord.Leaf1Ecx];
        uint ebx = (uint)ApicId << 24 | CacheLine / 8 << 8;
        if (LogicalPerPackage > 1)
        {
            ebx |= (uint)Math.Min(LogicalPerPackage, byte.MaxValue) << 16;
            edx |= Htt;
        }
        if ((cr4 & Tcg.Cr4.Osxsave) != 0) ecx |= Osxsave;
        if ((apicBase & 0x800) == 0) edx &= ~Apic;                 // disabled for good until reset
        return new(Signature, ebx, ecx, edx);
    }

    /// <summary>Highest leaves, for those who list them.</summary>
    internal uint BasicLevel => Level;
    internal uint ExtendedLimit => ExtendedLevel;

    /// <summary>Standard format: components at Intel's offsets.</summary>
    CpuidResult XsaveArea(uint subleaf, ulong xcr0)
    {
        if (Xcr0Mask == 0) return default;
        if (subleaf == 0) return new((uint)Xcr0Mask, Size(xcr0), Size(Xcr0Mask), 0);
        if (subleaf == 1) return new(this[CpuidWord.LeafD1Eax], Has("xsavec") ? CompactedSize(xcr0) : 0, 0, 0);
        foreach ((int bit, uint at, uint size) in Components)
            if (bit == subleaf && (Xcr0Mask >> bit & 1) != 0) return new(size, at, 0, 0);
        return default;
    }

    const uint Avx512 = 7 << 5, Pkru = 1 << 9;

    /// <summary>Where Intel's processors have PKRU in the standard format: after AVX-512, whether there is that or
    /// not.</summary>
    public const uint PkruStandard = 2688;

    static readonly (int Bit, uint At, uint Size)[] Components =
        [(2, LegacyXsave, 256), (5, 1088, 64), (6, 1152, 512), (7, 1664, 1024), (9, PkruStandard, 8)];

    static uint Size(ulong components)
    {
        uint end = LegacyXsave;
        foreach ((int bit, uint at, uint size) in Components)
            if ((components >> bit & 1) != 0) end = at + size;
        return end;
    }

    static uint CompactedSize(ulong components)
    {
        uint end = LegacyXsave;
        foreach ((int bit, _, uint size) in Components)
            if ((components >> bit & 1) != 0) end += size;
        return end;
    }

    static CpuidResult Text(uint eax, string text, int b, int c, int d) =>
        new(eax, Dword(text, b), Dword(text, c), Dword(text, d));
    static CpuidResult Text(string text, int at) =>
        new(Dword(text, at), Dword(text, at + 4), Dword(text, at + 8), Dword(text, at + 12));
    static uint Dword(string text, int at) => BitConverter.ToUInt32(Encoding.ASCII.GetBytes(text, at, 4));

    /// <summary>Whether an instruction exists for the guest, by the features that Iced says it needs.</summary>
    public bool[] DecodableFeatures()
    {
        var has = new bool[(int)CpuidFeature.XOP + 512];
        foreach (CpuidFeature always in (CpuidFeature[])[CpuidFeature.INTEL8086, CpuidFeature.INTEL8086_ONLY,
            CpuidFeature.INTEL186, CpuidFeature.INTEL286,
            CpuidFeature.INTEL286_ONLY, CpuidFeature.INTEL386, CpuidFeature.INTEL386_ONLY,
                CpuidFeature.INTEL386_A0_ONLY, CpuidFeature.INTEL486,
            CpuidFeature.INTEL486_A_ONLY, CpuidFeature.X64,
            CpuidFeature.CPUID, CpuidFeature.PAUSE,
            CpuidFeature.MPX, CpuidFeature.HLE, CpuidFeature.SMM])
            has[(int)always] = true;
        has[(int)CpuidFeature.RDPMC] = Model.Family >= 6 || Model.Family == 5 && Has("mmx");
        foreach ((CpuidFeature feature, string name) in Needed) has[(int)feature] = Has(name);
        has[(int)CpuidFeature.HLE_or_RTM] = Has("hle") || Has("rtm");
        // VMCALL and VMMCALL; nothing else of VMX is built, and SVM's other instructions look at EFER.SVME
        has[(int)CpuidFeature.VMX] = HasKvm || HyperV.IsOn;
        has[(int)CpuidFeature.SVM] = HasKvm || HyperV.IsOn || Has("svm");
        has[(int)CpuidFeature.SKINIT_or_SVM] = Has("svm");
        return has;
    }

    /// <summary>The feature by -cpu's name; null where there is none.</summary>
    internal static string? NameOf(CpuidFeature feature)
    {
        foreach ((CpuidFeature known, string name) in Needed)
            if (known == feature) return name;
        return null;
    }

    static readonly (CpuidFeature, string)[] Needed =
    [
        (CpuidFeature.CMOV, "cmov"), (CpuidFeature.CX8, "cx8"), (CpuidFeature.CMPXCHG16B, "cx16"),
            (CpuidFeature.MMX, "mmx"), (CpuidFeature.FXSR, "fxsr"),
        (CpuidFeature.SSE, "sse"), (CpuidFeature.SSE2, "sse2"), (CpuidFeature.SSE3, "pni"),
            (CpuidFeature.SSSE3, "ssse3"), (CpuidFeature.SSE4_1, "sse4.1"),
        (CpuidFeature.SSE4_2, "sse4.2"), (CpuidFeature.POPCNT, "popcnt"), (CpuidFeature.LZCNT, "abm"),
            (CpuidFeature.BMI1, "bmi1"),
        (CpuidFeature.BMI2, "bmi2"), (CpuidFeature.ADX, "adx"), (CpuidFeature.MOVBE, "movbe"),
            (CpuidFeature.RDRAND, "rdrand"), (CpuidFeature.RDSEED, "rdseed"),
        (CpuidFeature.AES, "aes"), (CpuidFeature.PCLMULQDQ, "pclmulqdq"), (CpuidFeature.AVX, "avx"),
            (CpuidFeature.AVX2, "avx2"), (CpuidFeature.FMA, "fma"),
        (CpuidFeature.F16C, "f16c"), (CpuidFeature.SHA, "sha-ni"), (CpuidFeature.GFNI, "gfni"),
            (CpuidFeature.VAES, "vaes"), (CpuidFeature.VPCLMULQDQ, "vpclmulqdq"),
        (CpuidFeature.AVX512F, "avx512f"), (CpuidFeature.AVX512DQ, "avx512dq"),
            (CpuidFeature.AVX512_IFMA, "avx512ifma"), (CpuidFeature.AVX512CD, "avx512cd"),
        (CpuidFeature.AVX512BW, "avx512bw"), (CpuidFeature.AVX512VL, "avx512vl"),
            (CpuidFeature.AVX512_VBMI, "avx512vbmi"),
        (CpuidFeature.AVX512_VBMI2, "avx512vbmi2"), (CpuidFeature.AVX512_VNNI, "avx512vnni"),
            (CpuidFeature.AVX512_BITALG, "avx512bitalg"),
        (CpuidFeature.AVX512_VPOPCNTDQ, "avx512-vpopcntdq"), (CpuidFeature.AVX512_VP2INTERSECT, "avx512-vp2intersect"),
        (CpuidFeature.AVX512_BF16, "avx512-bf16"), (CpuidFeature.AVX512_FP16, "avx512-fp16"),
            (CpuidFeature.AVX_VNNI, "avx-vnni"),
        (CpuidFeature.XSAVE, "xsave"), (CpuidFeature.XSAVEOPT, "xsaveopt"), (CpuidFeature.XSAVEC, "xsavec"),
            (CpuidFeature.XSAVES, "xsaves"),
        (CpuidFeature.FSGSBASE, "fsgsbase"), (CpuidFeature.INVPCID, "invpcid"), (CpuidFeature.RDTSCP, "rdtscp"),
            (CpuidFeature.RDPID, "rdpid"),
        (CpuidFeature.SMAP, "smap"), (CpuidFeature.CLFSH, "clflush"), (CpuidFeature.CLFLUSHOPT, "clflushopt"),
            (CpuidFeature.CLWB, "clwb"),
        (CpuidFeature.CLZERO, "clzero"), (CpuidFeature.WBNOINVD, "wbnoinvd"), (CpuidFeature.MOVDIRI, "movdiri"),
            (CpuidFeature.PKU, "pku"),
        (CpuidFeature.FPU, "fpu"), (CpuidFeature.FPU287, "fpu"), (CpuidFeature.FPU387, "fpu"),
            (CpuidFeature.MSR, "msr"), (CpuidFeature.TSC, "tsc"),
        (CpuidFeature.SERIALIZE, "serialize"), (CpuidFeature.MONITOR, "monitor"), (CpuidFeature.SEP, "sep"),
            (CpuidFeature.SYSCALL, "syscall"),
        (CpuidFeature.SSE4A, "sse4a"), (CpuidFeature.D3NOW, "3dnow"), (CpuidFeature.D3NOWEXT, "3dnowext"),
            (CpuidFeature.RTM, "rtm"), (CpuidFeature.MOVDIR64B, "movdir64b"),
            (CpuidFeature.CLDEMOTE, "cldemote"),
    ];
}
