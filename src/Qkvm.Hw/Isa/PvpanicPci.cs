using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>pvpanic-pci: <see cref="Pvpanic"/>'s register in a BAR. Spec: QEMU's docs/specs/pvpanic, "PCI
/// Interface".</summary>
public sealed class PvpanicPci : PciDevice
{
    public static readonly DeviceModel Model = new("pvpanic-pci", BusKind.Pci,
        [Property.Number("events", Pvpanic.Known, max: 0xFF, help: "bits that the guest is told of")],
        static (properties, site) => new PvpanicPci(new Pvpanic(site.Board, (byte)properties.Number("events"))))
    {
        Description = "the guest's kernel reports that it panicked",
    };

    /// <summary>The smallest BAR of memory that there is; the register is its first byte.</summary>
    const ulong BarSize = 16;

    public PvpanicPci(Pvpanic register)
        : base(new PciIdentity(0x1B36, 0x0011, 0x088000, Revision: 1, HasInterruptPin: false), Model.Name) =>
        Bar(0, MemoryRegion.Io(Model.Name, BarSize, register, AccessSizes.ByteOnly), BarKind.Memory32);

    protected override void ResetDevice() { }                      // stateless

    protected override void ExchangeDevice(StateStream state) { }
}
