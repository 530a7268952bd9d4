using Qkvm.Core.Machine;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Firmware;

/// <summary>System resource affinity table: the proximity domain of each processor and of all memory, and where some
/// may come. Spec: ACPI 6.5, section 5.2.16.</summary>
static class SratTable
{
    const uint Enabled = 1, HotPluggable = 2, NonVolatile = 4;
    const ulong Hole = 0xA0000, HoleEnd = 0x10_0000;
    const uint FirstX2Id = 255;

    public static byte[] Build(IReadOnlyList<uint> apicIds, PcMemory memory, NumaConfig numa,
        IReadOnlyList<Nvdimm> nvdimms)
    {
        AcpiTable srat = new AcpiTable("SRAT", 1).U32(1).Zeros(8);
        for (int cpu = 0; cpu < apicIds.Count; cpu++)
        {
            uint id = apicIds[cpu], domain = (uint)(numa.NodeOf(cpu) ?? 0);
            _ = id < FirstX2Id
                ? srat.U8(0).U8(16).U8((byte)domain).U8((byte)id).U32(Enabled).Zeros(8)
                : srat.U8(2).U8(24).Zeros(2).U32(domain).U32(id).U32(Enabled).Zeros(8);
        }
        int ranges = 0;
        ulong at = 0;
        for (int node = 0; node < numa.Nodes.Count; node++)
        {
            ulong end = at + numa.Nodes[node].Size;
            // offsets into RAM, and where they are in the guest's memory
            Part(node, at, Math.Min(end, Math.Min(Hole, memory.Below)), 0);
            Part(node, Math.Max(at, HoleEnd), Math.Min(end, memory.Below), 0);
            Part(node, Math.Max(at, memory.Below), end, memory.AboveStart - memory.Below);
            at = end;
        }
        foreach (Nvdimm nvdimm in nvdimms)
            Range(nvdimm.Node, nvdimm.Address, nvdimm.Size, Enabled | NonVolatile);
        while (ranges < numa.Nodes.Count + 2) Range(0, 0, 0, 0);   // QEMU's number, whatever memory there is
        if (memory.DeviceMemory.Size > 0)
            Range(numa.Nodes.Count - 1, memory.DeviceMemory.Base, memory.DeviceMemory.Size, Enabled | HotPluggable);
        return srat.ToArray();

        void Part(int node, ulong from, ulong to, ulong shift)
        {
            if (from < to) Range(node, from + shift, to - from, Enabled);
        }

        void Range(int node, ulong start, ulong length, uint flags)
        {
            ranges++;
            srat.U8(1).U8(40).U32((uint)node).Zeros(2).U64(start).U64(length).Zeros(4).U32(flags).Zeros(8);
        }
    }
}
