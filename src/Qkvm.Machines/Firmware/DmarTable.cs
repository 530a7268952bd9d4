using Qkvm.Core.Pci;
using Qkvm.Hw.Iommu;

namespace Qkvm.Machines.Firmware;

/// <summary>DMA Remapping Reporting: Intel VT-d, order D51397, chapter 8 "BIOS Considerations".</summary>
static class DmarTable
{
    /// <param name="first">The root bus of the segment, where others may bypass the unit.</param>
    public static byte[] Build(IntelIommuOptions options, PciBus? first)
    {
        const byte remapsInterrupts = 1, allFunctions = 1, allPorts = 1;
        const byte scopeFunction = 1, scopeBridge = 2, scopeIoApic = 3;
        const ushort unit = 0, rootPorts = 2;
        var dmar = new AcpiTable("DMAR", 1).U8((byte)(options.AddressBits - 1))
            .U8(options.RemapsInterrupts ? remapsInterrupts : (byte)0).Zeros(10);
        // Section 8.3: one unit for the whole segment, or for the root buses that do not bypass it, function by
        // function; and the place that it knows the I/O APIC by.
        PciBus[] roots = first == null ? [] : [first, .. first.Expanders.Select(expander => expander.Root)];
        PciDevice[] known = roots.All(root => root.Iommu != null) ? []
            : [.. roots.Where(root => root.Iommu != null).SelectMany(root => root.Devices)];
        dmar.U16(unit).U16((ushort)(16 + 8 * (known.Length + 1))).U8(known.Length == 0 ? allFunctions : (byte)0).U8(0)
            .U16(0).U64(IntelIommu.DefaultAddress);
        foreach (PciDevice device in known)
            Scope(device is PciBridge ? scopeBridge : scopeFunction, 0, device.Bus.Number, device.DevFn);
        Scope(scopeIoApic, 0, IntelIommu.IoApicSource >> 8, IntelIommu.IoApicSource & 0xFF);
        // Section 8.5: all root ports let ATS through.
        if (options.HasDeviceIotlb) dmar.U16(rootPorts).U16(8).U8(allPorts).U8(0).U16(0);
        return dmar.ToArray();

        void Scope(byte kind, byte id, int bus, int devFn) => dmar.U8(kind).U8(8).U16(0).U8(id).U8((byte)bus)
            .U8((byte)(devFn >> 3)).U8((byte)(devFn & 7));
    }
}
