using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

/// <summary>NVDIMM firmware interface table. Spec: ACPI 6.5, section 5.2.25.</summary>
static class NfitTable
{
    const ushort Range = 0, Mapping = 1, Control = 4, Capabilities = 7;        // types of structures
    const ushort ForHotAdd = 1, HasProximity = 2;                  // table 5.100, "Flags"
    const ulong WriteBack = 1 << 3, NonVolatile = 1 << 15;         // EFI_MEMORY_WB and EFI_MEMORY_NV
    const ushort NotArmed = 1 << 3;                                // table 5.101, "NVDIMM State Flags"
    const ushort Intel = 0x8086;
    const uint FirstSerial = 0x123456;
    const ushort ByteAddressable = 0x0301;                         // "Region Format Interface Code": no BLK

    static readonly Guid s_persistentMemory = new("66F0D379-B4F3-4074-AC43-0D3318B78CDB");

    /// <param name="nvdimms">At least one.</param>
    public static byte[] Build(IEnumerable<Nvdimm> nvdimms, NvdimmConfig config)
    {
        AcpiTable nfit = new AcpiTable("NFIT", 1).Zeros(4);
        foreach (Nvdimm nvdimm in nvdimms)
        {
            ushort range = (ushort)(nvdimm.Handle << 1), control = (ushort)(range | 1);
            nfit.U16(Range).U16(56).U16(range).U16(ForHotAdd | HasProximity).Zeros(4).U32((uint)nvdimm.Node)
                .Bytes(s_persistentMemory.ToByteArray()).U64(nvdimm.Address).U64(nvdimm.Size)
                .U64(WriteBack | NonVolatile);
            // of the whole NVDIMM, not interleaved with others
            nfit.U16(Mapping).U16(48).U32(nvdimm.Handle).Zeros(4).U16(range).U16(control).U64(nvdimm.Size)
                .Zeros(2 * sizeof(ulong)).U16(0).U16(1).U16(nvdimm.IsUnarmed ? NotArmed : (ushort)0).Zeros(2);
            nfit.U16(Control).U16(80).U16(control).U16(Intel).U16(1).U16(1).Zeros(12)
                .U32(FirstSerial + (uint)nvdimm.Slot).U16(ByteAddressable).Zeros(50);
        }
        if (config.Capabilities is not 0 and var capabilities)
            nfit.U16(Capabilities).U16(16).U8((byte)int.Log2((int)capabilities)).Zeros(3).U32(capabilities).Zeros(4);
        return nfit.ToArray();
    }
}
