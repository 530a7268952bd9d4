namespace Qkvm.Core.Machine;

/// <summary>-numa: which processors and which memory are near each other.</summary>
public sealed record NumaConfig
{
    /// <summary>Nodes that there can be.</summary>
    public const int MaxNodes = 128;

    /// <summary>Distances of ACPI 6.5, section 5.2.17: of a node to itself, and to another that nobody says.</summary>
    public const byte LocalDistance = 10, RemoteDistance = 20;

    /// <summary>By their numbers; none where the machine is one piece.</summary>
    public IReadOnlyList<NumaNode> Nodes { get; init; } = [];

    /// <summary>The node of each processor that there can be, by its index; none where there are no nodes.</summary>
    public IReadOnlyList<int> CpuNodes { get; init; } = [];

    /// <summary>From each node, a row of those to each; none where nobody says.</summary>
    public IReadOnlyList<byte[]> Distances { get; init; } = [];

    /// <summary>-machine hmat=on: the guest is told how fast memory is.</summary>
    public bool HasAttributes { get; init; }

    /// <summary>In the order of hierarchy and kind; of those that users say something about.</summary>
    public IReadOnlyList<MemorySpeed> Speeds { get; init; } = [];

    /// <summary>By node and level.</summary>
    public IReadOnlyList<MemorySideCache> Caches { get; init; } = [];

    /// <summary>The node of a processor, or null where there are none.</summary>
    public int? NodeOf(int cpu) => cpu < CpuNodes.Count ? CpuNodes[cpu] : null;

    /// <summary>The node's memory is reached best from its own processors, or from those that users name.</summary>
    public int? InitiatorOf(int node) => CpuNodes.Contains(node) ? node : Nodes[node].Initiator;
}

/// <param name="Size">Bytes of memory.</param>
/// <param name="Backend">The object that has it; null for a part of the machine's memory.</param>
/// <param name="Initiator">The node whose processors reach its memory best, if anybody says.</param>
public sealed record NumaNode(ulong Size, string? Backend = null, int? Initiator = null);

/// <summary>What of a memory access is told. The values are of ACPI 6.5, section 5.2.27.4, "Data Type".</summary>
public enum MemorySpeedKind { AccessLatency, ReadLatency, WriteLatency, AccessBandwidth, ReadBandwidth, WriteBandwidth }

/// <summary>The values are of ACPI 6.5, section 5.2.27.4, "Memory Hierarchy".</summary>
public enum MemoryHierarchy { Memory, FirstLevel, SecondLevel, ThirdLevel }

/// <summary>-numa hmat-lb: one kind of speed, between all nodes.</summary>
/// <param name="Values">In order; nanoseconds of a latency, bytes a second of a bandwidth.</param>
public sealed record MemorySpeed(MemoryHierarchy Hierarchy, MemorySpeedKind Kind,
    IReadOnlyList<(int Initiator, int Target, ulong Value)> Values)
{
    /// <summary>Of a table's entry; one more would mean that there is no way.</summary>
    public const ulong MostUnits = ushort.MaxValue - 1;

    const ulong Megabyte = 1 << 20;

    public bool IsLatency => Kind < MemorySpeedKind.AccessBandwidth;

    /// <summary>What all values are multiples of: the largest power of ten nanoseconds, or of two megabytes a
    /// second.</summary>
    public ulong Unit
    {
        get
        {
            ulong unit = IsLatency ? 1 : Megabyte, factor = IsLatency ? 10u : 2u;
            if (Values.All(one => one.Value == 0)) return unit;
            while (Values.All(one => one.Value % (unit * factor) == 0)) unit *= factor;
            return unit;
        }
    }
}

/// <summary>The values are of ACPI 6.5, section 5.2.27.5, "Cache Attributes".</summary>
public enum CacheAssociativity { None, Direct, Complex }

/// <summary>The values are of ACPI 6.5, section 5.2.27.5, "Cache Attributes".</summary>
public enum CacheWritePolicy { None, WriteBack, WriteThrough }

/// <summary>-numa hmat-cache: memory that keeps copies of a node's.</summary>
/// <param name="Size">Bytes; <paramref name="Line"/> of a line.</param>
/// <param name="Level">From 1 on.</param>
public sealed record MemorySideCache(int Node, int Level, ulong Size, CacheAssociativity Associativity,
    CacheWritePolicy Policy, ushort Line);
