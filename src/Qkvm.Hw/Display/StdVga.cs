using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Host;

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

    readonly VgaRegisters _registers = new();
    readonly BochsDispi _dispi;
    readonly VgaMemory _window;
    readonly VgaPainter _painter;
    readonly GuestRam _ram;

    public StdVga(Properties properties, DeviceSite site)
        : base(new PciIdentity(0x1234, 0x1111, 0x030000, Revision: 2, HasInterruptPin: false), "VGA")
    {
        ulong size = properties.Number("vgamem_mb") << 20;
        if (!System.Numerics.BitOperations.IsPow2(size) || size is < (1 << 20) or > (256 << 20))
            throw new ConfigurationException($"{properties.Owner}: vgamem_mb={size >> 20}: expects a power of two " +
                "from 1 to 256");
        _ram = site.Ram("vga.vram", size);
        _dispi = new BochsDispi((uint)size, OnModeChanged);
        _window = new VgaMemory(_registers, _ram);
        _painter = new VgaPainter(_registers, _dispi, _ram);

        Bar(0, MemoryRegion.OfRam("vga.vram", _ram, 0, size), BarKind.Prefetchable32);
        if (properties.Bool("mmio")) Bar(2, Mmio(properties), BarKind.Memory32);
        foreach (var (port, count) in VgaRegisters.Ports)
            site.MapPorts(port,
                MemoryRegion.Io("vga", count, new Shifted(_registers, port - VgaRegisters.FirstPort),
                AccessSizes.Bytes));
        site.MapPorts(BochsDispi.IndexPort,
            MemoryRegion.Io("vbe", BochsDispi.PortCount, _dispi, new AccessSizes(1, 4, 1, 2)));
        site.Map(((PciBus)site.Bus.Wires!).MemorySpace, VgaMemory.Window,
            MemoryRegion.Io("vga-lowmem", VgaMemory.WindowSize, _window, AccessSizes.Bytes), 1);
        site.AddDisplay(this);
        Reset();
    }

    public void Paint(FrameBuffer target) => _painter.Paint(target);

    protected override void ResetDevice()
    {
        _registers.Reset();
        _dispi.Reset();
        _window.Reset();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        _registers.Exchange(state.Group("registers"));
        _dispi.Exchange(state.Group("dispi"));
        _window.Exchange(state.Group("window"));
        if (state.IsLoading) ShowMode();
    }

    void ShowMode()
    {
        _window.Bank = _dispi.IsEnabled ? _dispi.BankOffset : 0;
        _window.IsLinear = _dispi.IsEnabled && _dispi.Bits != 4;
        _registers.WidePalette = _dispi.HasWideDac;
    }

    void OnModeChanged()
    {
        ShowMode();
        bool clear = _dispi.TakeClearRequest();
        if (!_dispi.IsEnabled) return;
        // VBE modes show 64 KiB of the memory at A0000h, and are graphics.
        ref byte miscellaneous = ref _registers.Graphics[VgaRegisters.Miscellaneous];
        miscellaneous = (byte)(miscellaneous & ~0x0C | 5);
        if (!clear) return;
        int length = (int)Math.Min(_ram.Size, (ulong)_dispi.Pitch * (ulong)_dispi.Height);
        _ram.Span(0, length).Clear();
        _ram.MarkWritten(0, (ulong)length);
    }

    MemoryRegion Mmio(Properties properties)
    {
        var container = MemoryRegion.Container("vga.mmio", MmioSize);
        if (properties.Bool("edid"))
            container.Map(MmioEdid,
                MemoryRegion.Io("vga.mmio-edid", MmioEdidSize, new Blob(Identify(properties)), AccessSizes.Bytes));
        var ports = new Shifted(_registers, MmioVgaFirstPort - VgaRegisters.FirstPort);
        container.Map(MmioVga, MemoryRegion.Io("vga.mmio-ports", MmioVgaSize, ports, AccessSizes.Bytes));
        container.Map(MmioDispi,
            MemoryRegion.Io("vga.mmio-dispi", 0x16, new DispiRegisters(_dispi), new AccessSizes(1, 4, 2, 2)));
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

    /// <summary>A bank seen from another first offset.</summary>
    sealed class Shifted(IRegisterBank bank, ulong shift) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => bank.Read(offset + shift, size);
        public void Write(ulong offset, int size, ulong value) => bank.Write(offset + shift, size, value);
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
