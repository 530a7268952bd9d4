using Qkvm.Hw.Iommu;

namespace Qkvm.Machines.Firmware;

/// <summary>DMA Remapping Reporting: Intel VT-d, order D51397, chapter 8 "BIOS Considerations".</summary>
static class DmarTable
{
    public static byte[] Build(IntelIommuOptions options)
    {
        const byte remapsInterrupts = 1, allFunctions = 1, allPorts = 1, scopeIoApic = 3;
        const ushort unit = 0, rootPorts = 2;
        var dmar = new AcpiTable("DMAR", 1).U8((byte)(options.AddressBits - 1))
            .U8(options.RemapsInterrupts ? remapsInterrupts : (byte)0).Zeros(10);
        // Section 8.3: one unit for the whole segment, and the place that it knows the I/O APIC by.
        dmar.U16(unit).U16(16 + 8).U8(allFunctions).U8(0).U16(0).U64(IntelIommu.DefaultAddress)
            .U8(scopeIoApic).U8(8).U16(0).U8(0).U8(IntelIommu.IoApicSource >> 8).U8(0).U8(0);
        // Section 8.5: all root ports let ATS through.
        if (options.HasDeviceIotlb) dmar.U16(rootPorts).U16(8).U8(allPorts).U8(0).U16(0);
        return dmar.ToArray();
    }
}
