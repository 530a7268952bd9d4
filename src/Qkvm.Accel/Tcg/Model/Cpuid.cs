using System.Numerics;
using System.Text;
using Iced.Intel;
using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>The four registers that CPUID returns.</summary>
public readonly record struct CpuidResult(uint Eax, uint Ebx, uint Ecx, uint Edx);

/// <summary>What CPUID shows on one vCPU: a model with its features switched, in a place of the topology.</summary>
public sealed class Cpuid(CpuModel model, uint[] words, CpuSetup setup)
{
    const uint Hypervisor = 0x40000000, Extended = 0x80000000;
    const uint LegacyXsave = 576;
    const int CacheLine = 64;

    public CpuModel Model { get; } = model;

    /// <summary>Features that were asked for and do not exist here.</summary>
    public IReadOnlyList<string> Missing { get; init; } = [];

    public int PhysicalBits => setup.PhysicalAddressBits;
    public int ApicId => setup.ApicId;
    public uint Signature => Model.Signature;

    public bool Has(CpuidWord word, int bit) => (words[(int)word] >> bit & 1) != 0;

    /// <summary>By QEMU's name.</summary>
    public bool Has(string feature) => CpuFeatures.TryFind(feature, out CpuidWord word, out int bit) && Has(word, bit);

    /// <summary>Bits of XCR0 that may be set.</summary>
    public ulong Xcr0Mask => !Has("xsave") ? 0 : (Has("avx") ? 7u : 3u) | (Has("avx512f") ? Avx512 : 0u) | (Has("pku") ? Pkru : 0u);

    uint this[CpuidWord word] => words[(int)word];
    int LogicalPerPackage => setup.Cores * setup.Threads;
    int ThreadBits => Width(setup.Threads);
    int PackageBits => ThreadBits + Width(setup.Cores);

    static int Width(int count) => count <= 1 ? 0 : 32 - BitOperations.LeadingZeroCount((uint)count - 1);

    /// <summary>Leaf and subleaf; OSXSAVE, OSPKE and the XSAVE size follow the guest's CR4 and XCR0.</summary>
    public CpuidResult Query(uint leaf, uint subleaf, ulong cr4, ulong xcr0, ulong apicBase)
    {
        uint level = Math.Max(Model.Level, Has("xsave") ? 0xDu : words[(int)CpuidWord.Leaf7Ebx] != 0 ? 7u : 0u);
        uint limit = leaf >= Extended ? Model.ExtendedLevel : leaf >= Hypervisor ? Hypervisor + 1 : level;
        if (leaf > limit) leaf = level;
        switch (leaf)
        {
            case 0: return Text(level, Model.Vendor, 0, 8, 4);
            case 1: return Features(cr4, apicBase);
            case 2: return new(1, 0, 0x4D, 0x2C307D);
            case 4: return Cache(subleaf);
            case 6: return new(this[CpuidWord.Leaf6Eax], 0, 0, 0);
            case 7 when subleaf == 0:
                return new(this[CpuidWord.Leaf71Eax] != 0 ? 1u : 0, this[CpuidWord.Leaf7Ebx], this[CpuidWord.Leaf7Ecx] | ((cr4 & Interpreter.Cr4.Pke) != 0 ? 0x10u : 0), this[CpuidWord.Leaf7Edx]);
            case 7 when subleaf == 1: return new(this[CpuidWord.Leaf71Eax], 0, 0, 0);
            case 0xB: return Topology(subleaf);
            case 0xD: return XsaveArea(subleaf, xcr0);
            case Hypervisor: return Text(Hypervisor + 1, "TCGTCGTCGTCG", 0, 4, 8);
            case Extended: return Text(Model.ExtendedLevel, Model.Vendor, 0, 8, 4);
            case Extended + 1:
                // AMD repeats the common bits of leaf 1.
                uint common = Model.Vendor == CpuModel.Amd ? this[CpuidWord.Leaf1Edx] & 0x0183F3FF : 0;
                uint legacy = LogicalPerPackage > 1 && Model.Vendor == CpuModel.Amd ? 2u : 0;
                return new(Signature, 0, this[CpuidWord.Leaf80000001Ecx] | legacy, this[CpuidWord.Leaf80000001Edx] | common);
            case Extended + 2 or Extended + 3 or Extended + 4: return Text(Model.Text.PadRight(48, '\0'), (int)(leaf - Extended - 2) * 16);
            case Extended + 5: return new(0x01FF01FF, 0x01FF01FF, 0x40020140, 0x40020140);
            case Extended + 6: return new(0, 0x42004200, 0x02008140, 0x00808140);
            case Extended + 7: return new(0, 0, 0, this[CpuidWord.Leaf80000007Edx]);
            case Extended + 8:
                uint virtualBits = Has("la57") ? 57u : 48u;
                uint cores = LogicalPerPackage > 1 ? (uint)(PackageBits << 12 | LogicalPerPackage - 1) : 0;
                return new((uint)PhysicalBits | (Has("lm") ? virtualBits << 8 : 32u << 8), this[CpuidWord.Leaf80000008Ebx], cores, 0);
            default: return default;
        }
    }

    CpuidResult Features(ulong cr4, ulong apicBase)
    {
        const uint Apic = 1 << 9, Htt = 1 << 28, Osxsave = 1 << 27;
        uint edx = this[CpuidWord.Leaf1Edx], ecx = this[CpuidWord.Leaf1Ecx];
        uint ebx = (uint)ApicId << 24 | CacheLine / 8 << 8;
        if (LogicalPerPackage > 1)
        {
            ebx |= (uint)LogicalPerPackage << 16;
            edx |= Htt;
        }
        if ((cr4 & Interpreter.Cr4.Osxsave) != 0) ecx |= Osxsave;
        if ((apicBase & 0x800) == 0) edx &= ~Apic;                 // disabled for good until reset
        return new(Signature, ebx, ecx, edx);
    }

    /// <summary>Deterministic cache parameters; Intel's models only.</summary>
    CpuidResult Cache(uint subleaf)
    {
        if (Model.Vendor != CpuModel.Intel) return default;
        (uint type, uint level, uint ways, uint sets, int sharing) = subleaf switch
        {
            0 => (1u, 1u, 8u, 64u, setup.Threads),
            1 => (2u, 1u, 8u, 64u, setup.Threads),
            2 => (3u, 2u, 16u, 4096u, setup.Threads),
            3 => (3u, 3u, 16u, 16384u, LogicalPerPackage),
            _ => default,
        };
        if (type == 0) return default;
        uint coreIds = (1u << PackageBits - ThreadBits) - 1;
        return new(type | level << 5 | 1u << 8 | ((1u << Width(sharing)) - 1) << 14 | coreIds << 26, CacheLine - 1 | ways - 1 << 22, sets - 1, 1);
    }

    /// <summary>Extended topology: threads of a core, then logical processors of a package.</summary>
    CpuidResult Topology(uint subleaf) => subleaf switch
    {
        0 => new((uint)ThreadBits, (uint)setup.Threads, 0x100, (uint)ApicId),
        1 => new((uint)PackageBits, (uint)LogicalPerPackage, 0x201, (uint)ApicId),
        _ => new(0, 0, subleaf & 0xFF, (uint)ApicId),
    };

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

    /// <summary>Where Intel's processors have PKRU in the standard format: after AVX-512, whether there is that or not.</summary>
    public const uint PkruStandard = 2688;

    static readonly (int Bit, uint At, uint Size)[] Components = [(2, LegacyXsave, 256), (5, 1088, 64), (6, 1152, 512), (7, 1664, 1024), (9, PkruStandard, 8)];

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

    static CpuidResult Text(uint eax, string text, int b, int c, int d) => new(eax, Dword(text, b), Dword(text, c), Dword(text, d));
    static CpuidResult Text(string text, int at) => new(Dword(text, at), Dword(text, at + 4), Dword(text, at + 8), Dword(text, at + 12));
    static uint Dword(string text, int at) => BitConverter.ToUInt32(Encoding.ASCII.GetBytes(text, at, 4));

    /// <summary>Whether an instruction exists for the guest, by the features that Iced says it needs.</summary>
    public bool[] DecodableFeatures()
    {
        var has = new bool[(int)CpuidFeature.XOP + 512];
        foreach (CpuidFeature always in (CpuidFeature[])[CpuidFeature.INTEL8086, CpuidFeature.INTEL8086_ONLY, CpuidFeature.INTEL186, CpuidFeature.INTEL286,
            CpuidFeature.INTEL286_ONLY, CpuidFeature.INTEL386, CpuidFeature.INTEL386_ONLY, CpuidFeature.INTEL386_A0_ONLY, CpuidFeature.INTEL486,
            CpuidFeature.INTEL486_A_ONLY, CpuidFeature.X64, CpuidFeature.FPU, CpuidFeature.FPU287, CpuidFeature.FPU387,
            CpuidFeature.CPUID, CpuidFeature.MULTIBYTENOP, CpuidFeature.PAUSE, CpuidFeature.PREFETCHW, CpuidFeature.PREFETCHWT1, CpuidFeature.PREFETCHITI,
            CpuidFeature.RDPMC,
            CpuidFeature.CET_IBT, CpuidFeature.CET_SS, CpuidFeature.MPX, CpuidFeature.HLE, CpuidFeature.MSR, CpuidFeature.TSC, CpuidFeature.SMM, CpuidFeature.CLDEMOTE])
            has[(int)always] = true;
        foreach ((CpuidFeature feature, string name) in Needed) has[(int)feature] = Has(name);
        return has;
    }

    static readonly (CpuidFeature, string)[] Needed =
    [
        (CpuidFeature.CMOV, "cmov"), (CpuidFeature.CX8, "cx8"), (CpuidFeature.CMPXCHG16B, "cx16"), (CpuidFeature.MMX, "mmx"), (CpuidFeature.FXSR, "fxsr"),
        (CpuidFeature.SSE, "sse"), (CpuidFeature.SSE2, "sse2"), (CpuidFeature.SSE3, "pni"), (CpuidFeature.SSSE3, "ssse3"), (CpuidFeature.SSE4_1, "sse4.1"),
        (CpuidFeature.SSE4_2, "sse4.2"), (CpuidFeature.POPCNT, "popcnt"), (CpuidFeature.LZCNT, "abm"), (CpuidFeature.BMI1, "bmi1"),
        (CpuidFeature.BMI2, "bmi2"), (CpuidFeature.ADX, "adx"), (CpuidFeature.MOVBE, "movbe"), (CpuidFeature.RDRAND, "rdrand"), (CpuidFeature.RDSEED, "rdseed"),
        (CpuidFeature.AES, "aes"), (CpuidFeature.PCLMULQDQ, "pclmulqdq"), (CpuidFeature.AVX, "avx"), (CpuidFeature.AVX2, "avx2"), (CpuidFeature.FMA, "fma"),
        (CpuidFeature.F16C, "f16c"), (CpuidFeature.SHA, "sha-ni"), (CpuidFeature.GFNI, "gfni"), (CpuidFeature.VAES, "vaes"), (CpuidFeature.VPCLMULQDQ, "vpclmulqdq"),
        (CpuidFeature.AVX512F, "avx512f"), (CpuidFeature.AVX512DQ, "avx512dq"), (CpuidFeature.AVX512_IFMA, "avx512ifma"), (CpuidFeature.AVX512CD, "avx512cd"),
        (CpuidFeature.AVX512BW, "avx512bw"), (CpuidFeature.AVX512VL, "avx512vl"), (CpuidFeature.AVX512_VBMI, "avx512vbmi"),
        (CpuidFeature.AVX512_VBMI2, "avx512vbmi2"), (CpuidFeature.AVX512_VNNI, "avx512vnni"), (CpuidFeature.AVX512_BITALG, "avx512bitalg"),
        (CpuidFeature.AVX512_VPOPCNTDQ, "avx512-vpopcntdq"), (CpuidFeature.AVX512_VP2INTERSECT, "avx512-vp2intersect"),
        (CpuidFeature.AVX512_BF16, "avx512-bf16"), (CpuidFeature.AVX512_FP16, "avx512-fp16"), (CpuidFeature.AVX_VNNI, "avx-vnni"),
        (CpuidFeature.XSAVE, "xsave"), (CpuidFeature.XSAVEOPT, "xsaveopt"), (CpuidFeature.XSAVEC, "xsavec"), (CpuidFeature.XSAVES, "xsaves"),
        (CpuidFeature.FSGSBASE, "fsgsbase"), (CpuidFeature.INVPCID, "invpcid"), (CpuidFeature.RDTSCP, "rdtscp"), (CpuidFeature.RDPID, "rdpid"),
        (CpuidFeature.SMAP, "smap"), (CpuidFeature.CLFSH, "clflush"), (CpuidFeature.CLFLUSHOPT, "clflushopt"), (CpuidFeature.CLWB, "clwb"),
        (CpuidFeature.CLZERO, "clzero"), (CpuidFeature.WBNOINVD, "wbnoinvd"), (CpuidFeature.MOVDIRI, "movdiri"), (CpuidFeature.PKU, "pku"),
        (CpuidFeature.MONITOR, "monitor"), (CpuidFeature.SEP, "sep"), (CpuidFeature.SYSCALL, "syscall"),
    ];
}
