using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

/// <summary>Heterogeneous memory attribute table: how fast the memory of nodes is, and what caches it has. Spec: ACPI
/// 6.5, section 5.2.27.</summary>
static class HmatTable
{
    const ushort Proximity = 0, Locality = 1, Cache = 2;           // types of structures
    const ulong PicosecondsPerNanosecond = 1000, Megabyte = 1 << 20;

    public static byte[] Build(NumaConfig numa)
    {
        AcpiTable hmat = new AcpiTable("HMAT", 2).Zeros(4);
        for (int node = 0; node < numa.Nodes.Count; node++) AddProximity(hmat, node, numa.InitiatorOf(node));
        int[] initiators = [.. numa.CpuNodes.Distinct().Order()];
        foreach (MemorySpeed speed in numa.Speeds) AddLocality(hmat, speed, initiators, numa.Nodes.Count);
        foreach (MemorySideCache cache in numa.Caches)
            AddCache(hmat, cache, numa.Caches.Count(other => other.Node == cache.Node));
        return hmat.ToArray();
    }

    /// <summary>Section 5.2.27.3, "Memory Proximity Domain Attributes Structure".</summary>
    static void AddProximity(AcpiTable hmat, int node, int? initiator) => hmat.U16(Proximity).Zeros(2).U32(40)
        .U16((ushort)(initiator != null ? 1 : 0)).Zeros(2).U32((uint)(initiator ?? 0)).U32((uint)node).Zeros(20);

    /// <summary>Section 5.2.27.4, "System Locality Latency and Bandwidth Information Structure"; of what nobody tells
    /// it says 0.</summary>
    static void AddLocality(AcpiTable hmat, MemorySpeed speed, int[] initiators, int targets)
    {
        int length = 32 + initiators.Length * 4 + targets * 4 + initiators.Length * targets * 2;
        hmat.U16(Locality).Zeros(2).U32((uint)length).U8((byte)speed.Hierarchy).U8((byte)speed.Kind).Zeros(2)
            .U32((uint)initiators.Length).U32((uint)targets).Zeros(4)
            .U64(speed.IsLatency ? speed.Unit * PicosecondsPerNanosecond : speed.Unit / Megabyte);
        foreach (int initiator in initiators) hmat.U32((uint)initiator);
        for (int target = 0; target < targets; target++) hmat.U32((uint)target);
        foreach (int initiator in initiators)
            for (int target = 0; target < targets; target++)
                hmat.U16((ushort)(speed.Values.FirstOrDefault(value => value.Initiator == initiator
                    && value.Target == target).Value / speed.Unit));
    }

    /// <summary>Section 5.2.27.5, "Memory Side Cache Information Structure".</summary>
    static void AddCache(AcpiTable hmat, MemorySideCache cache, int levels) => hmat.U16(Cache).Zeros(2).U32(32)
        .U32((uint)cache.Node).Zeros(4).U64(cache.Size).U32((uint)levels | (uint)cache.Level << 4
            | (uint)cache.Associativity << 8 | (uint)cache.Policy << 12 | (uint)cache.Line << 16)
        .Zeros(4);
}
