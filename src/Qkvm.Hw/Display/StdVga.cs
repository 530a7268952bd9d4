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
    const ulong MmioSize = 0x1000;
    const ulong MmioEdid = 0, MmioEdidSize = 0x400;
    const ulong MmioVga = 0x400, MmioVgaSize = 0x20, MmioVgaFirstPort = 0x3C0;
    const ulong MmioDispi = 0x500;
    const ulong MmioExtended = 0x600;

    public static readonly DeviceModel Model = new("VGA", BusKind.Pci,
        [
            Property.Number("vgamem_mb", 16, 1, 256, "video memory in MiB, a power of two"),
            Property.Bool("edid", true, "identify a monitor to the guest"),
            Property.Number("xres", 0, 0, Edid.MaxResolution, "pixels across that the monitor prefers, 0 for 1280"),
            Property.Number("yres", 0, 0, Edid.MaxResolution, "lines that it prefers, 0 for 800"),
            Property.Number("xmax", 0, 0, ushort.MaxValue, "name no wider resolutions, 0 for no bound"),
            Property.Number("ymax", 0, 0, ushort.MaxValue, "name no higher resolutions, 0 for no bound"),
            Property.Bool("mmio", true),
            Property.Text("romfile", "vgabios-stdvga.bin", "video BIOS, empty for none"),
        ], (properties, site) => new StdVga(properties, site))
    {
        Category = DeviceCategory.Display,
        Description = "standard VGA",
        Replaces = DefaultDevice.Vga,
        IsHotPluggable = false,
    };

    readonly VgaCore _core;

    public StdVga(Properties properties, DeviceSite site)
        : base(new PciIdentity(0x1234, 0x1111, 0x030000, Revision: 2, HasInterruptPin: false), "VGA")
    {
        _core = new VgaCore(properties, site, ((PciBus)site.Bus.Wires!).MemorySpace);
        Bar(0, MemoryRegion.OfRam(_core.Ram.Name, _core.Ram, 0, _core.Ram.Size), BarKind.Prefetchable32);
        if (properties.Bool("mmio")) Bar(2, Mmio(properties), BarKind.Memory32);
        site.AddDisplay(this);
        Reset();
    }

    public void Paint(FrameBuffer target) => _core.Paint(target);

    protected override void ResetDevice() => _core.Reset();

    protected override void ExchangeDevice(StateStream state) => _core.Exchange(state);

    MemoryRegion Mmio(Properties properties)
    {
        var container = MemoryRegion.Container("vga.mmio", MmioSize);
        if (properties.Bool("edid"))
            container.Map(MmioEdid,
                MemoryRegion.Io("vga.mmio-edid", MmioEdidSize, new Blob(Identify(properties)), AccessSizes.Bytes));
        var ports = new VgaCore.Shifted(_core.Registers, MmioVgaFirstPort - VgaRegisters.FirstPort);
        container.Map(MmioVga, MemoryRegion.Io("vga.mmio-ports", MmioVgaSize, ports, AccessSizes.Bytes));
        container.Map(MmioDispi,
            MemoryRegion.Io("vga.mmio-dispi", 0x16, new DispiRegisters(_core.Dispi), new AccessSizes(1, 4, 2, 2)));
        container.Map(MmioExtended,
            MemoryRegion.Io("vga.mmio-extended", 8, new Extended(), new AccessSizes(1, 4, 4, 4)));
        return container;
    }

    static byte[] Identify(Properties properties)
    {
        return Edid.Build(Number("xres", 1280), Number("yres", 800), Number("xmax", 0), Number("ymax", 0));

        int Number(string name, int usual) => properties.Number(name) is > 0 and var given ? (int)given : usual;
    }

    /// <summary>Bytes to read, zeros behind them.</summary>
    sealed class Blob(byte[] bytes) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => offset < (ulong)bytes.Length ? bytes[offset] : 0u;
        public void Write(ulong offset, int size, ulong value) { } // read-only
    }

    /// <summary>All DISPI registers side by side, 16 bits each.</summary>
    sealed class DispiRegisters(BochsDispi dispi) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => dispi.ReadRegister((int)offset / 2);
        public void Write(ulong offset, int size, ulong value) => dispi.WriteRegister((int)offset / 2, (ushort)value);
    }

    /// <summary>The size of this block, and the byte order: little endian alone.</summary>
    sealed class Extended : IRegisterBank
    {
        const uint LittleEndian = 0x1E1E1E1E;

        public ulong Read(ulong offset, int size) => offset == 0 ? 8 : LittleEndian;
        public void Write(ulong offset, int size, ulong value) { } // big endian is not offered
    }
}
