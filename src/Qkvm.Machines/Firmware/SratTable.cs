using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Firmware;

/// <summary>System resource affinity table, of one proximity domain: it tells the operating system where memory may
/// come. Spec: ACPI 6.3, section 5.2.16.</summary>
static class SratTable
{
    const uint Enabled = 1, HotPluggable = 2, Domain = 0;
    const ulong Hole = 0xA0000, HoleEnd = 0x10_0000;
    const uint FirstX2Id = 255;

    public static byte[] Build(IReadOnlyList<uint> apicIds, PcMemory memory)
    {
        AcpiTable srat = new AcpiTable("SRAT", 1).U32(1).Zeros(8);
        foreach (uint id in apicIds)
            _ = id < FirstX2Id ? srat.U8(0).U8(16).U8((byte)Domain).U8((byte)id).U32(Enabled).Zeros(8)
                : srat.U8(2).U8(24).Zeros(2).U32(Domain).U32(id).U32(Enabled).Zeros(8);
        Range(0, Math.Min(memory.Below, Hole), Enabled);
        if (memory.Below > HoleEnd) Range(HoleEnd, memory.Below - HoleEnd, Enabled);
        if (memory.Above > 0) Range(memory.AboveStart, memory.Above, Enabled);
        Range(memory.DeviceMemory.Base, memory.DeviceMemory.Size, Enabled | HotPluggable);
        return srat.ToArray();

        void Range(ulong start, ulong length, uint flags) =>
            srat.U8(1).U8(40).U32(Domain).Zeros(2).U64(start).U64(length).Zeros(4).U32(flags).Zeros(8);
    }
}
