using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>xio3130-downstream: a port of a switch, behind <see cref="X3130Upstream"/>. Spec: Texas Instruments
/// XIO3130, SLLS693, section 4.3.</summary>
public sealed class Xio3130Downstream : PciePort
{
    public static readonly DeviceModel Model = new("xio3130-downstream", BusKind.PciExpress, OptionsAnd(), Create)
    {
        Category = DeviceCategory.Bridge,
        Description = "TI X3130 Downstream Port of PCI Express Switch",
        IsHotPluggable = false,
    };

    static readonly PciePortChip s_chip = new(Model.Name,
        new PciIdentity(0x104C, 0x8233, 0x060400, Revision: 1, HasInterruptPin: false), ExpressKind.DownstreamPort,
        ExpressLink.Slowest, SubsystemAt: 0x80, InterruptAt: 0x70, ExpressAt: 0x90, Messages: 1) { Is64Bit = true };

    Xio3130Downstream(PciBus parent, string bus, PciePortOptions options, Action<PciDevice> eject)
        : base(s_chip, parent, bus, options, eject) { }

    static PciePort Create(Properties properties, DeviceSite site) => Create(properties, site,
        (parent, bus, options) => new Xio3130Downstream(parent, bus, options, site.Board.Eject));
}
