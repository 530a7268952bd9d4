using System.Numerics;
using System.Runtime.Intrinsics.X86;

namespace Qkvm.Accel.Tcg.Model;

/// <remarks>Where a processor stands among the others, and which caches it shares with them. Intel SDM vol. 2, CPUID,
/// leaves 4, Bh and 1Fh; AMD APM vol. 3, appendix E.4, functions 80000005h, 80000006h, 8000001Dh and
/// 8000001Eh.</remarks>
public sealed partial class Cpuid
{
    const uint SmtLevel = 1 << 8, CoreLevel = 2 << 8, DieLevel = 5 << 8;

    int LogicalPerDie => setup.Cores * setup.Threads;
    int LogicalPerPackage => setup.Dies * LogicalPerDie;

    /// <summary>MSR_CORE_THREAD_COUNT: a package's cores in bits 31:16, threads below. Intel SDM vol. 4, table
    /// 2-15.</summary>
    public uint CoreThreadCount => (uint)(setup.Dies * setup.Cores) << 16 | (uint)LogicalPerPackage;

    int ThreadBits => Width(setup.Threads);
    int DieBits => ThreadBits + Width(setup.Cores);
    int PackageBits => DieBits + Width(setup.Dies);

    static int Width(int count) => count <= 1 ? 0 : 32 - BitOperations.LeadingZeroCount((uint)count - 1);

    /// <summary>Of a level: how far to shift the id for the next one, and how many processors it has.</summary>
    CpuidResult Topology(uint subleaf) => subleaf switch
    {
        0 => new((uint)ThreadBits, (uint)setup.Threads, SmtLevel, (uint)ApicId),
        1 => new((uint)PackageBits, (uint)LogicalPerPackage, CoreLevel | 1, (uint)ApicId),
        _ => new(0, 0, subleaf & 0xFF, (uint)ApicId),
    };

    CpuidResult TopologyWithDies(uint subleaf) => subleaf switch
    {
        1 => new((uint)DieBits, (uint)LogicalPerDie, CoreLevel | 1, (uint)ApicId),
        2 => new((uint)PackageBits, (uint)LogicalPerPackage, DieLevel | 2, (uint)ApicId),
        _ => Topology(subleaf == 0 ? 0 : Math.Max(subleaf, 2)),
    };

    /// <summary>Leaf 1Fh is there where packages have dies, on processors that say so.</summary>
    bool HasDies => setup.Dies > 1 && Model.Vendor == CpuModel.Intel && extras.HasTopology;

    /// <summary>AMD's leaves show AMD's caches, whoever made the processor.</summary>
    CpuCaches Caches => (extras.HasLegacyCaches ? null : CpuCaches.Of(Model.Name)) ?? CpuCaches.Amd;

    /// <summary>AMD's have neither leaf 2 nor leaf 4.</summary>
    bool HasCacheLeaves => !Model.IsAmd || !extras.IsVendorOnly;

    /// <summary>Descriptors: caches of 32 KiB, 32 KiB and 16 MiB, as QEMU's.</summary>
    CpuidResult Descriptors() => extras.HasHostCaches ? FromHost(2, 0, 0)
        : HasCacheLeaves ? new(1, 0, 0x4D, 0x2C307D) : default;

    /// <summary>Deterministic cache parameters. Threads of a core share the first two levels, cores of a die the
    /// third.</summary>
    CpuidResult Cache(uint subleaf)
    {
        uint ids = subleaf == 3 ? 1u << DieBits : 1u << ThreadBits, cores = (1u << PackageBits - ThreadBits) - 1;
        if (extras.HasHostCaches) return FromHost(4, subleaf, cores << 26);
        if (!HasCacheLeaves) return default;
        CpuidResult cache = Describe(CpuCaches.Intel, subleaf, ids);
        return cache == default ? cache : cache with { Eax = cache.Eax | cores << 26 };
    }

    /// <summary>Cache properties of AMD's, which say how many share one, not how many ids there are.</summary>
    CpuidResult AmdCache(uint subleaf) => extras.HasHostCaches ? FromHost(Extended + 0x1D, subleaf, 0)
        : Describe(Caches, subleaf, (uint)(subleaf == 3 ? LogicalPerDie : setup.Threads));

    CpuidResult Describe(CpuCaches caches, uint subleaf, uint sharing)
    {
        const uint data = 1, code = 2, unified = 3, selfInitializing = 1 << 8;
        if (subleaf == 3 && !extras.HasL3Cache || subleaf > 3) return default;
        (CacheShape shape, uint type, uint level) = subleaf switch
        {
            0 => (caches.Data, data, 1u),
            1 => (caches.Code, code, 1u),
            2 => (caches.Second, unified, 2u),
            _ => (caches.Third, unified, 3u),
        };
        return new(type | level << 5 | (shape.IsSelfInitializing ? selfInitializing : 0) | (sharing - 1) << 14,
            CacheShape.Line - 1 | shape.Associativity - 1 << 22, shape.Sets - 1, shape.Properties);
    }

    const uint LinesPerTag = 1 << 8;

    CpuidResult FirstLevel()
    {
        if (extras.HasHostCaches) return FromHost(Extended + 5, 0, 0);
        return new(0x01FF01FF, 0x01FF01FF, Of(Caches.Data), Of(Caches.Code));

        static uint Of(CacheShape shape) =>
            shape.Kilobytes << 24 | shape.Associativity << 16 | LinesPerTag | CacheShape.Line;
    }

    CpuidResult OtherLevels()
    {
        if (extras.HasHostCaches) return FromHost(Extended + 6, 0, 0);
        CacheShape second = Caches.Second, third = Caches.Third;
        const int halfMegabyte = 512;
        return new(0, 0x42004200, second.Kilobytes << 16 | Ways(second) | LinesPerTag | CacheShape.Line,
            extras.HasL3Cache ? third.Kilobytes / halfMegabyte << 18 | Ways(third) | LinesPerTag | CacheShape.Line : 0);

        // APM vol. 3, table E-4
        static uint Ways(CacheShape shape) => shape.Associativity == 8 ? 6u << 12 : 8u << 12;
    }

    /// <summary>host-cache-info: this machine's, shared by no more than there are here.</summary>
    CpuidResult FromHost(uint leaf, uint subleaf, uint cores)
    {
        if (!X86Base.IsSupported) return default;
        (int a, int b, int c, int d) = X86Base.CpuId((int)leaf, (int)subleaf);
        if (leaf is 2 or Extended + 5 or Extended + 6) return new((uint)a, (uint)b, (uint)c, (uint)d);
        const uint sharedMask = 0xFFF << 14, coresMask = 0x3Fu << 26;
        uint eax = (uint)a;
        if ((eax & 0x1F) == 0) return default;
        uint shared = Math.Min((eax & sharedMask) >> 14, (1u << PackageBits) - 1);
        return new(eax & ~sharedMask & ~coresMask | shared << 14 | cores, (uint)b, (uint)c, (uint)d);
    }

    /// <summary>Extended APIC id, core and node: Fn8000_001E.</summary>
    CpuidResult Node()
    {
        int socket = ApicId >> PackageBits, die = ApicId >> DieBits & (1 << PackageBits - DieBits) - 1,
            core = ApicId >> ThreadBits & (1 << DieBits - ThreadBits) - 1;
        return new((uint)ApicId, (uint)(core & 0xFF | setup.Threads - 1 << 8),
            (uint)(socket * setup.Dies + die & 0xFF | setup.Dies - 1 << 8), 0);
    }
}
