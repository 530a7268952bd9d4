using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Display;

/// <summary>QEMU's standard VGA on PCI: VGA, Bochs VBE, linear framebuffer. Spec: QEMU
/// docs/specs/standard-vga.txt.</summary>
/// <remarks>Deviations: the framebuffer is little endian alone; resolutions beyond 4095 cannot be preferred.</remarks>
public sealed class StdVga : PciDevice, IDisplaySource
{
    const uint VgaClass = 0x030000, OtherClass = 0x038000;
    const string MemorySize = "vgamem_mb";

    public static readonly DeviceModel Model = new("VGA", BusKind.Pci,
        [
            Property.Number(MemorySize, 16, 1, 256, "video memory in MiB, a power of two"),
            .. DisplayMmio.Monitor,
            Property.Bool("mmio", true),
            Property.Text("romfile", "vgabios-stdvga.bin", "video BIOS, empty for none"),
        ], (properties, site) => new StdVga(properties, site))
    {
        Category = DeviceCategory.Display,
        Description = "standard VGA",
        Replaces = DefaultDevice.Vga,
        IsHotPluggable = false,
    };

    /// <summary>The same beside another card: without VGA's ports and window.</summary>
    public static readonly DeviceModel Secondary = new("secondary-vga", BusKind.Pci,
        [
            Property.Number(MemorySize, 16, 1, 256, "video memory in MiB, a power of two"), .. DisplayMmio.Monitor,
            Property.Missing("qemu-extended-regs", "on"),
        ], (properties, site) => new StdVga(properties, site, isSecondary: true))
    {
        Category = DeviceCategory.Display,
        Description = "standard VGA without its ports",
    };

    readonly VgaCore _core;

    public StdVga(Properties properties, DeviceSite site, bool isSecondary = false)
        : base(new PciIdentity(0x1234, 0x1111, isSecondary ? OtherClass : VgaClass, Revision: 2,
            HasInterruptPin: false), isSecondary ? Secondary.Name : Model.Name)
    {
        _core = new VgaCore(properties, site, isSecondary ? null : ((PciBus)site.Bus.Wires!).MemorySpace);
        Bar(0, MemoryRegion.OfRam(_core.Ram.Name, _core.Ram, 0, _core.Ram.Size), BarKind.Prefetchable32);
        if (isSecondary || properties.Bool("mmio"))
            Bar(2, DisplayMmio.Make(properties, _core.Dispi, _core.Registers), BarKind.Memory32);
        site.AddDisplay(this);
        Reset();
    }

    public void Paint(FrameBuffer target) => _core.Paint(target);
    public bool PaintText(TextScreen target) => _core.PaintText(target);

    protected override void ResetDevice() => _core.Reset();

    protected override void ExchangeDevice(StateStream state) => _core.Exchange(state);
}
