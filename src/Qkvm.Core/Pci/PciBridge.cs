using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Core.Pci;

/// <summary>A bridge to another PCI bus: what all have in common, which is header type 1, the windows that it forwards,
/// and the interrupt pins of the bus behind it. Spec: PCI-to-PCI Bridge Architecture 1.2, chapters 3 and 4.</summary>
/// <remarks>Deviations: devices behind it reach memory whatever its Bus Master Enable says, as SeaBIOS sets that of
/// their own alone; ISA Enable changes nothing; no discard timer, and no error is ever signalled.</remarks>
public abstract class PciBridge : PciDevice
{
    // Registers of header type 1, section 3.2
    const int PrimaryBus = 0x18, SecondaryBus = 0x19, SubordinateBus = 0x1A, SecondaryLatency = 0x1B, IoBase = 0x1C,
        IoLimit = 0x1D, MemoryBase = 0x20, MemoryLimit = 0x22, PrefetchableBase = 0x24,
        PrefetchableLimit = 0x26, PrefetchableBaseUpper = 0x28, PrefetchableLimitUpper = 0x2C, IoBaseUpper = 0x30,
        IoLimitUpper = 0x32, BridgeControl = 0x3E;

    const int SecondaryStatus = 0x1E;

    // Of a status register: what a conventional bus can do, and what writing one clears
    const ushort Capable66 = 0x20, FastBackToBack = 0x80, ErrorBits = 0xF900;

    const byte Type1 = 1;
    const byte Io32 = 1, Memory64 = 1;                             // the width of a window, in its low four bits
    const ushort VgaEnable = 0x08, Vga16Bit = 0x10, SecondaryBusReset = 0x40, DiscardStatus = 0x0400,
        ControlBits = 0x0FFF & ~DiscardStatus, ExpressControlBits = 0x005F;

    // What VGA Enable forwards, section 4.5.1
    static readonly (bool IsIo, ulong Start, ulong Size)[] s_vga =
        [(false, 0xA0000, 0x20000), (true, 0x3B0, 0x0C), (true, 0x3C0, 0x20)];

    readonly MemoryRegion _io, _memory, _prefetchable;
    readonly MemoryRegion[] _vga;
    bool _inReset;                                                 // derived of Bridge Control

    /// <param name="parent">The bus that it will sit on.</param>
    /// <param name="bus">The name of the bus behind it.</param>
    /// <param name="slotCount">Of that bus: 1 of a PCI Express port.</param>
    /// <param name="ioWidth">The low bits of I/O Base and Limit: 0 for 16 bits of address, 1 for 32.</param>
    protected PciBridge(PciIdentity identity, string name, PciBus parent, string bus, int slotCount = PciBus.Slots,
        byte ioWidth = 0, bool isExpress = false)
        : base(identity with { SubsystemVendorId = 0, SubsystemId = 0 }, name, isExpress)
    {
        Secondary = new PciBus(bus, parent, this) { SlotCount = slotCount };
        Config.Define(PciConfig.HeaderType, Type1);
        for (int register = PrimaryBus; register <= SecondaryLatency; register++) Config.Define(register, 0, 0xFF);
        Config.Define(IoBase, ioWidth, 0xF0);
        Config.Define(IoLimit, ioWidth, 0xF0);
        Config.Define32(MemoryBase, 0, 0xFFF0_FFF0);
        Config.Define32(PrefetchableBase, Memory64 | Memory64 << 16, 0xFFF0_FFF0);
        Config.Define32(PrefetchableBaseUpper, 0, uint.MaxValue);
        Config.Define32(PrefetchableLimitUpper, 0, uint.MaxValue);
        Config.Define32(IoBaseUpper, 0, ioWidth == Io32 ? uint.MaxValue : 0);
        ushort speed = (ushort)(LeadsToExpress ? 0 : Capable66 | FastBackToBack);
        Config.Define16(PciConfig.Status, speed);
        Config.Define16(SecondaryStatus, speed, clearable: ErrorBits);
        if (LeadsToExpress) Config.Define16(BridgeControl, 0, ExpressControlBits);
        else Config.Define16(BridgeControl, 0, ControlBits, DiscardStatus);

        _io = Window("io", Secondary.IoSpace);
        _memory = Window("memory", Secondary.MemorySpace);
        _prefetchable = Window("prefetchable", Secondary.MemorySpace);
        _vga = [.. s_vga.Select(v => MemoryRegion.Alias($"{name}-vga",
            v.IsIo ? Secondary.IoSpace : Secondary.MemorySpace, v.Start, v.Size))];

        MemoryRegion Window(string kind, MemoryRegion space) => MemoryRegion.Alias($"{name}-{kind}", space, 0, 1);
    }

    /// <summary>What is behind it is PCI Express, too.</summary>
    protected internal virtual bool LeadsToExpress => IsExpress;

    /// <summary>The bus behind it.</summary>
    public PciBus Secondary { get; }

    public int PrimaryNumber => Config[PrimaryBus];
    public int SecondaryNumber => Config[SecondaryBus];
    public int SubordinateNumber => Config[SubordinateBus];

    // Addresses that it forwards while its Command register lets it, sections 3.2.5.6 to 3.2.5.10; none where the limit
    // is below the base.
    public (ulong Base, ulong Limit) IoRange =>
        ((ulong)Config.Get16(IoBaseUpper) << 16 | (ulong)(Config[IoBase] & 0xF0) << 8,
        (ulong)Config.Get16(IoLimitUpper) << 16 | (ulong)(Config[IoLimit] & 0xF0) << 8 | 0xFFF);
    public (ulong Base, ulong Limit) MemoryRange =>
        ((ulong)(Config.Get16(MemoryBase) & 0xFFF0) << 16,
        (ulong)(Config.Get16(MemoryLimit) & 0xFFF0) << 16 | 0xF_FFFF);
    public (ulong Base, ulong Limit) PrefetchableRange =>
        ((ulong)Config.Get32(PrefetchableBaseUpper) << 32 | (ulong)(Config.Get16(PrefetchableBase) & 0xFFF0) << 16,
        (ulong)Config.Get32(PrefetchableLimitUpper) << 32
            | (ulong)(Config.Get16(PrefetchableLimit) & 0xFFF0) << 16 | 0xF_FFFF);

    /// <summary>A function has come to the bus behind it.</summary>
    protected internal virtual void OnPlugged(int devFn) { }

    /// <summary>A function has left the bus behind it.</summary>
    protected internal virtual void OnUnplugged(int devFn) { }

    protected override void ResetDevice()
    {
        _inReset = false;
        ApplyWindows();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        if (!state.IsLoading) return;
        _inReset = IsControl(SecondaryBusReset);
        ApplyWindows();
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if (offset >= PciConfig.CapabilityStart) return;
        ApplyWindows();
        bool inReset = IsControl(SecondaryBusReset);
        if (inReset && !_inReset)
            foreach (PciDevice device in Secondary.Devices) device.Reset();
        _inReset = inReset;
    }

    bool IsControl(ushort bits) => (Config.Get16(BridgeControl) & bits) != 0;

    void ApplyWindows()
    {
        if (Bus == null) return;
        ushort command = Config.Get16(PciConfig.Command);
        bool io = (command & PciConfig.IoSpace) != 0, memory = (command & PciConfig.MemorySpace) != 0;
        Place(_io, Bus.IoSpace, IoRange, io);
        Place(_memory, Bus.MemorySpace, MemoryRange, memory);
        Place(_prefetchable, Bus.MemorySpace, PrefetchableRange, memory);
        for (int i = 0; i < _vga.Length; i++)
        {
            (bool isIo, ulong start, ulong length) = s_vga[i];
            Place(_vga[i], isIo ? Bus.IoSpace : Bus.MemorySpace, (start, start + length - 1),
                IsControl(VgaEnable) && (isIo ? io : memory));
        }
    }

    static void Place(MemoryRegion window, MemoryRegion space, (ulong Base, ulong Limit) range, bool isOpen)
    {
        if (!isOpen || range.Limit < range.Base || range.Base >= space.Size)
        {
            if (window.Parent != null) space.Unmap(window);
            return;
        }
        if (window.Parent == null) space.Map(range.Base, window, 1);
        window.SetWindow(range.Base, range.Base, Math.Min(range.Limit, space.Size - 1) - range.Base + 1);
    }
}
