using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Tpm;

namespace Qkvm.Hw.Tpm;

/// <summary>What both interfaces tell ACPI and firmware. Spec: TCG ACPI Specification 1.2, chapter 8.</summary>
static class TpmAcpi
{
    /// <summary>Where PCs have their TPM.</summary>
    public const uint Address = 0xFED4_0000;

    const string Device12 = "PNP0C31", Device20 = "MSFT0101";

    /// <summary>The device, and room for the event log. The interrupt is not told: drivers poll, as on QEMU.</summary>
    /// <param name="size">Bytes of its registers.</param>
    public static void Describe(DeviceSite site, ITpmDevice device, uint size)
    {
        site.Board.AddFirmwareFile(ITpmDevice.LogFile, new byte[ITpmDevice.LogSize]);
        bool is20 = device.Tpm.Version == TpmVersion.V20;
        site.Describe("TPM", () =>
        [
            Aml.Name("_HID", is20 ? Aml.Text(Device20) : Aml.EisaId(Device12)),
            Aml.Name("_STR", Aml.Text(is20 ? "TPM 2.0 Device" : "TPM 1.2 Device")),
            Aml.Name("_UID", 1),
            Aml.Name("_STA", 0x0F),
            Aml.Name("_CRS", AmlResource.Template(AmlResource.Memory32(Address, size, writable: true))),
        ]);
    }
}
