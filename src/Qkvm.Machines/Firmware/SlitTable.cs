using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

/// <summary>System locality information table: how far nodes are from each other. Spec: ACPI 6.5, section
/// 5.2.17.</summary>
static class SlitTable
{
    public static byte[] Build(NumaConfig numa)
    {
        AcpiTable slit = new AcpiTable("SLIT", 1).U64((ulong)numa.Nodes.Count);
        foreach (byte[] row in numa.Distances) slit.Bytes(row);
        return slit.ToArray();
    }
}
