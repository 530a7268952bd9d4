using System.Text;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>Hyper-V's enlightenments, by what QEMU calls them.</summary>
[Flags]
public enum HyperVFeatures
{
    None = 0, Relaxed = 1, VApic = 2, Time = 4, Crash = 8, Reset = 0x10, VpIndex = 0x20, Runtime = 0x40, SynIc = 0x80,
    STimer = 0x100, STimerDirect = 0x200, Frequencies = 0x400, Reenlightenment = 0x800, TlbFlush = 0x1000, Ipi = 0x2000,
    Avic = 0x4000, Evmcs = 0x8000, EmsrBitmap = 0x1_0000, TlbFlushExt = 0x2_0000, TlbFlushDirect = 0x4_0000,
    XmmInput = 0x8_0000, Syndbg = 0x10_0000,
}

/// <summary>What -cpu …,hv-… makes of the hypervisor's CPUID leaves. Spec: Hypervisor Top Level Functional
/// Specification (TLFS) 6.0b, section 2.4.</summary>
public sealed class HyperV
{
    const uint Base = 0x40000000, LastLeaf = Base + 5, LastNestedLeaf = Base + 0xA;
    const uint Interface = 0x31237648;                             // "Hv#1"
    const uint Hypercalls = 1 << 5, DynamicPartitioning = 1 << 3, PostMessages = 1 << 4, SignalEvents = 1 << 5,
        NoSharedCores = 1 << 18;
    const uint HardwareFeatures = 0x40;

    /// <summary>KVM's own leaves move up by so much beside these.</summary>
    public const uint KvmDistance = 0x100;

    const HyperVFeatures Nested = HyperVFeatures.Evmcs | HyperVFeatures.EmsrBitmap | HyperVFeatures.TlbFlushDirect;

    /// <summary>What the software CPU has.</summary>
    public const HyperVFeatures OfSoftware = HyperVFeatures.Relaxed | HyperVFeatures.VApic | HyperVFeatures.Time
        | HyperVFeatures.Crash | HyperVFeatures.Reset | HyperVFeatures.VpIndex | HyperVFeatures.Runtime
        | HyperVFeatures.SynIc | HyperVFeatures.STimer | HyperVFeatures.STimerDirect | HyperVFeatures.Frequencies
        | HyperVFeatures.Reenlightenment | HyperVFeatures.TlbFlush | HyperVFeatures.Ipi | HyperVFeatures.Avic;

    /// <summary>One: its bits in leaves 40000003h (EAX and EDX) and 40000004h (EAX), and what it cannot do
    /// without.</summary>
    sealed record Enlightenment(string Name, HyperVFeatures Feature, uint Access, uint Features, uint Recommendations,
        HyperVFeatures Needs = HyperVFeatures.None);

    static readonly Enlightenment[] s_all =
    [
        new("hv-relaxed", HyperVFeatures.Relaxed, 0, 0, 1 << 5),
        new("hv-vapic", HyperVFeatures.VApic, 1 << 4, 0, 1 << 3),
        new("hv-time", HyperVFeatures.Time, 1 << 1 | 1 << 9, 0, 0),
        new("hv-crash", HyperVFeatures.Crash, 0, 1 << 10, 0),
        new("hv-reset", HyperVFeatures.Reset, 1 << 7, 0, 0),
        new("hv-vpindex", HyperVFeatures.VpIndex, 1 << 6, 0, 0),
        new("hv-runtime", HyperVFeatures.Runtime, 1 << 0, 0, 0),
        new("hv-synic", HyperVFeatures.SynIc, 1 << 2, 0, 0, HyperVFeatures.VpIndex),
        new("hv-stimer", HyperVFeatures.STimer, 1 << 3, 0, 0, HyperVFeatures.SynIc | HyperVFeatures.Time),
        new("hv-stimer-direct", HyperVFeatures.STimerDirect, 0, 1 << 19, 0, HyperVFeatures.STimer),
        new("hv-frequencies", HyperVFeatures.Frequencies, 1 << 11, 1 << 8, 0),
        new("hv-reenlightenment", HyperVFeatures.Reenlightenment, 1 << 13, 0, 0),
        new("hv-tlbflush", HyperVFeatures.TlbFlush, 0, 0, 1 << 2 | 1 << 11, HyperVFeatures.VpIndex),
        new("hv-ipi", HyperVFeatures.Ipi, 0, 0, 1 << 10 | 1 << 11, HyperVFeatures.VpIndex),
        new("hv-avic", HyperVFeatures.Avic, 0, 0, 1 << 9),
        new("hv-evmcs", HyperVFeatures.Evmcs, 0, 0, 1 << 14, HyperVFeatures.VApic),
        new("hv-emsr-bitmap", HyperVFeatures.EmsrBitmap, 0, 0, 0),
        new("hv-tlbflush-ext", HyperVFeatures.TlbFlushExt, 0, 1 << 14, 0, HyperVFeatures.TlbFlush),
        new("hv-tlbflush-direct", HyperVFeatures.TlbFlushDirect, 0, 0, 0, HyperVFeatures.VApic),
        new("hv-xmm-input", HyperVFeatures.XmmInput, 0, 1 << 4, 0),
        new("hv-syndbg", HyperVFeatures.Syndbg, 0, 0, 0),
    ];

    public HyperVFeatures Features { get; set; }

    /// <summary>How often a guest tries a lock before it tells that it waits; null: for ever.</summary>
    public uint? Spinlocks { get; set; }
    public string Vendor { get; set; } = "Microsoft Hv";
    public uint Build { get; set; } = 0x3839;
    public uint Major { get; set; } = 10;
    public uint Minor { get; set; }
    public uint ServicePack { get; set; }
    public uint ServiceBranch { get; set; }
    public uint ServiceNumber { get; set; }

    /// <summary>A core's threads are of one guest.</summary>
    public bool HasOwnCores { get; set; }

    /// <summary>The leaves are Hyper-V's.</summary>
    public bool IsOn => Features != HyperVFeatures.None || Spinlocks != null;

    public bool Has(HyperVFeatures feature) => (Features & feature) != 0;

    /// <summary>By name, with - or _ between its words.</summary>
    public static bool TryFind(string name, out HyperVFeatures feature)
    {
        Enlightenment? found = Array.Find(s_all, one => one.Name == name.Replace('_', '-'));
        feature = found?.Feature ?? HyperVFeatures.None;
        return found != null;
    }

    /// <summary>Those that a kernel has with these words of its leaves 40000003h and 40000004h.</summary>
    public static HyperVFeatures Of(uint access, uint features, uint recommendations)
    {
        var all = HyperVFeatures.None;
        foreach (Enlightenment one in s_all)
            if ((one.Access & ~access | one.Features & ~features | one.Recommendations & ~recommendations) == 0
                && (one.Feature & (Nested | HyperVFeatures.Syndbg)) == 0) all |= one.Feature;
        return all;
    }

    /// <summary>"hv-stimer needs hv-synic", or null: nothing is missing.</summary>
    public string? Complaint(HyperVFeatures supported, string host)
    {
        foreach (Enlightenment one in s_all)
        {
            if (!Has(one.Feature)) continue;
            if ((supported & one.Feature) == 0) return $"{one.Name}: {host} does not have it";
            foreach (Enlightenment needed in s_all)
                if ((one.Needs & needed.Feature & ~Features) != 0) return $"{one.Name}: needs {needed.Name}";
        }
        return null;
    }

    /// <summary>The highest leaf.</summary>
    public uint Limit => Has(HyperVFeatures.Evmcs) ? LastNestedLeaf : LastLeaf;

    public CpuidResult Query(uint leaf)
    {
        uint access = Hypercalls, features = DynamicPartitioning, recommendations = HasOwnCores ? NoSharedCores : 0;
        foreach (Enlightenment one in s_all)
        {
            if (!Has(one.Feature)) continue;
            (access, features, recommendations) = (access | one.Access, features | one.Features,
                recommendations | one.Recommendations);
        }
        switch (leaf)
        {
            case Base:
                byte[] vendor = new byte[12];
                Encoding.ASCII.GetBytes(Vendor, vendor);
                return new(Limit, BitConverter.ToUInt32(vendor, 0), BitConverter.ToUInt32(vendor, 4),
                    BitConverter.ToUInt32(vendor, 8));
            case Base + 1: return new(Interface, 0, 0, 0);
            case Base + 2: return new(Build, Major << 16 | Minor, ServicePack, ServiceBranch << 24 | ServiceNumber);
            case Base + 3: return new(access, Has(HyperVFeatures.SynIc) ? PostMessages | SignalEvents : 0, 0, features);
            case Base + 4: return new(recommendations, Spinlocks ?? uint.MaxValue, 0, 0);
            case Base + 5: return new(uint.MaxValue, HardwareFeatures, 0, 0);
            default: return default;
        }
    }
}
