using Qkvm.Core.Acpi;

namespace Qkvm.Machines.Firmware;

/// <summary>The SSDT that tells of an <see cref="IGenerationId"/>: device VGEN, whose ADDR is the number's place. Spec:
/// Microsoft's "Virtual Machine Generation ID", "BIOS requirements".</summary>
static class GenerationIdTable
{
    const byte DwordPrefix = 0x0C, Revision = 1;

    /// <param name="pointer">Where in the table the low half of the address stands, to which the page's is to be
    /// added; four bytes.</param>
    public static byte[] Build(out int pointer)
    {
        Aml address = new([DwordPrefix, .. Aml.Number(IGenerationId.Offset, sizeof(uint))]);
        byte[] table = new AcpiTable("SSDT", Revision).Bytes(Aml.Join(Aml.Scope(@"\_SB", Aml.Device("VGEN",
            Aml.Name("_HID", Aml.Text("QEMUVGID")), Aml.Name("_CID", Aml.Text("VM_Gen_Counter")),
            Aml.Name("_DDN", Aml.Text("VM_Gen_Counter")), Aml.Name("_STA", 0x0F),
            Aml.Name("ADDR", Aml.Package(address, 0)))))).ToArray();
        pointer = table.AsSpan().LastIndexOf(address.Code) + 1;
        return table;
    }
}
