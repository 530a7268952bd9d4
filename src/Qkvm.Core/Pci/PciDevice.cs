using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Core.Pci;

public enum BarKind { Memory32, Memory64, Prefetchable64, Prefetchable32, Io }

/// <summary>A function on a PCI bus. Constructors define identity, BARs and capabilities; <see cref="Dma"/>,
/// <see cref="IntX"/> and <see cref="MsiTarget"/> exist from plugging on.</summary>
/// <remarks>Derived classes implement <see cref="ResetDevice"/> and <see cref="ExchangeDevice"/> for their own state
/// alone; configuration space, BARs and the INTx wire are handled here.</remarks>
public abstract class PciDevice(PciIdentity identity, string name, bool isExpress = false) : IDevice
{
    const int Bars = 7, RomBar = 6;                                // six and the expansion ROM
    const byte BridgeHeader = 1;

    readonly MemoryRegion?[] _regions = new MemoryRegion?[Bars];
    readonly BarKind[] _kinds = new BarKind[Bars];
    IMsiTarget? _messages;                                         // an IOMMU's

    public string Name { get; } = name;
    public PciConfig Config { get; } = new(identity, isExpress);
    public PciIdentity Identity { get; } = identity;
    public PciBus Bus { get; private set; } = null!;

    /// <summary>Slot &lt;&lt; 3 | function.</summary>
    public int DevFn { get; private set; } = -1;

    /// <summary>Guest memory; closed while Bus Master Enable is clear.</summary>
    public Dma Dma { get; private set; } = null!;

    /// <summary>INTA#, as the Interrupt Pin register says; silent while Interrupt Disable is set, and where messages
    /// have taken its place.</summary>
    public IrqLine IntX { get; private set; } = IrqLine.Unconnected("intx");

    /// <summary>Where its messages go.</summary>
    public IMsiTarget MsiTarget => _messages ?? Bus.Msi;

    /// <summary>What bridges, and an IOMMU, know its requests by: bus &lt;&lt; 8 | function. A bridge to conventional
    /// PCI asks in its own name for what is behind it. PCI Express to PCI/PCI-X Bridge 1.0, section 2.3.</summary>
    public ushort RequesterId
    {
        get
        {
            int id = Bus.Number << 8 | DevFn;
            for (PciBus bus = Bus; bus.Bridge is { } bridge; bus = bridge.Bus)
                if (!bridge.LeadsToExpress)
                    id = bridge.IsExpress ? bus.Number << 8 : bridge.Bus.Number << 8 | bridge.DevFn;
            return (ushort)id;
        }
    }

    /// <summary>It reaches memory without asking an IOMMU.</summary>
    protected virtual bool BypassesIommu => false;

    /// <summary>MSI, where the device has defined it.</summary>
    public Msi? Msi { get; protected set; }

    /// <summary>MSI-X, where the device has defined it.</summary>
    public MsiX? MsiX { get; protected set; }

    internal bool SendsMessages => Msi is { IsEnabled: true } || MsiX is { IsEnabled: true };

    /// <summary>It has PCI Express's configuration space.</summary>
    public bool IsExpress => Config.Size == PciConfig.ExpressSize;

    /// <summary>-device …,id=; null for none.</summary>
    public string? Id { get; set; }

    /// <summary>-device …,acpi-index=; 0 for none.</summary>
    public uint AcpiIndex { get; set; }

    /// <summary>-device …,multifunction=on.</summary>
    public bool IsMultifunction { get; set; }

    /// <summary>The file of its option ROM, which it has where that is installed and romfile= names no other; null for
    /// none.</summary>
    public virtual string? InstalledRom => null;

    public virtual string BootPathEnd => (Identity.ClassCode >> 8) switch
    {
        0x0100 => "/disk@0,0",
        0x0200 => "/ethernet-phy@0",
        _ => "",
    };

    /// <summary>Regions behind the BARs, index 6 the expansion ROM.</summary>
    public IReadOnlyList<MemoryRegion?> BarRegions => _regions;

    protected abstract void ResetDevice();
    protected abstract void ExchangeDevice(StateStream state);

    /// <summary>After the guest wrote configuration bytes; BARs and Dma are up to date.</summary>
    protected virtual void OnConfigWritten(int offset, int size) { }

    /// <summary>Before the guest reads configuration bytes.</summary>
    protected virtual void OnConfigRead(int offset, int size) { }

    public void Reset()
    {
        IntX.Set(false);
        Config.Reset();
        if (IsMultifunction) Config[PciConfig.HeaderType] |= PciConfig.Multifunction;
        MsiX?.Reset();
        Apply();
        ResetDevice();
    }

    public void Exchange(StateStream state)
    {
        Config.Exchange(state);
        bool level = IntX.Level;
        state.Field("intx", ref level);
        MsiX?.Exchange(state.Group("msix"));
        if (state.IsLoading)
        {
            IntX.Restore(level);
            Bus?.Drive(this, isRestoring: true);
            Apply();
        }
        ExchangeDevice(state.Group("device"));
    }

    /// <summary>Puts registers back that a reset has changed.</summary>
    public void Restore(int offset, ReadOnlySpan<byte> registers)
    {
        for (int i = 0; i < registers.Length; i++) Config[offset + i] = registers[i];
        Apply();
        OnConfigWritten(offset, registers.Length);
    }

    /// <summary>The level of the one interrupt of a function, by whichever means the guest has chosen: its pin, or the
    /// first message when it rises.</summary>
    protected void Interrupt(bool level)
    {
        bool rises = level && !IntX.Level;
        IntX.Set(level);
        if (!rises) return;
        Msi?.Notify(0);
        MsiX?.Notify(0);
    }

    /// <summary>Defines BAR 0 to 5; the region's size is a power of two (of at least 16 bytes, 4 for I/O).</summary>
    protected void Bar(int index, MemoryRegion region, BarKind kind)
    {
        if (!System.Numerics.BitOperations.IsPow2(region.Size))
            throw new ArgumentException($"{Name}: BAR {index} of {region.Size} bytes");
        _regions[index] = region;
        _kinds[index] = kind;
        int offset = PciConfig.Bar0 + index * 4;
        uint type = kind switch { BarKind.Io => 1, BarKind.Memory64 => 4, BarKind.Prefetchable64 => 12,
            BarKind.Prefetchable32 => 8, _ => 0u };
        ulong mask = ~(region.Size - 1);
        Config.Define32(offset, type, (uint)mask & (kind == BarKind.Io ? ~3u : ~15u));
        if (kind is BarKind.Memory64 or BarKind.Prefetchable64) Config.Define32(offset + 4, 0, (uint)(mask >> 32));
    }

    /// <summary>Defines the expansion ROM (section 6.2.5.2).</summary>
    public void ExpansionRom(MemoryRegion region)
    {
        _regions[RomBar] = region;
        Config.Define32(RomRegister, 0, (uint)~(region.Size - 1) | 1);
    }

    /// <summary>In the header of a bridge it stands elsewhere.</summary>
    int RomRegister => (Config[PciConfig.HeaderType] & ~PciConfig.Multifunction) == BridgeHeader
        ? PciConfig.BridgeRomAddress : PciConfig.RomAddress;

    internal void Plug(PciBus bus, int devFn, Dma dma, IrqLine intX)
    {
        (Bus, DevFn, Dma, IntX) = (bus, devFn, dma, intX);
        Apply();
    }

    internal void Join(IPciIommu iommu)
    {
        Dma.Translation = BypassesIommu ? null : iommu.TranslationOf(this);
        _messages = iommu.MessagesOf(this);
    }

    internal uint ReadConfig(int offset, int size)
    {
        OnConfigRead(offset, size);
        uint value = 0;
        for (int i = 0; i < size; i++) value |= (uint)Config[offset + i] << (i * 8);
        return value;
    }

    internal void WriteConfig(int offset, int size, uint value)
    {
        for (int i = 0; i < size; i++) Config.GuestWrite(offset + i, (byte)(value >> (i * 8)));
        bool remap = Overlaps(offset, size, PciConfig.Command, 2) || Overlaps(offset, size, PciConfig.Bar0, 24)
            || Overlaps(offset, size, RomRegister, 4);
        if (remap) Apply();
        Msi?.ConfigWritten();
        MsiX?.ConfigWritten();
        Bus.Drive(this);
        OnConfigWritten(offset, size);
    }

    static bool Overlaps(int a, int aSize, int b, int bSize) => a < b + bSize && b < a + aSize;

    /// <summary>Makes bus mastering and the regions' places follow the registers.</summary>
    void Apply()
    {
        if (Bus == null) return;
        ushort command = Config.Get16(PciConfig.Command);
        Dma.Enabled = (command & PciConfig.BusMaster) != 0;
        Bus.Drive(this);
        for (int i = 0; i < Bars; i++)
            if (_regions[i] is { } region) Place(region, i, command);
    }

    void Place(MemoryRegion region, int index, ushort command)
    {
        bool io = index != RomBar && _kinds[index] == BarKind.Io;
        ulong address;
        bool enabled = (command & (io ? PciConfig.IoSpace : PciConfig.MemorySpace)) != 0;
        if (index == RomBar)
        {
            uint rom = Config.Get32(RomRegister);
            enabled &= (rom & 1) != 0;
            address = rom & ~(region.Size - 1);
        }
        else
        {
            address = Config.Get32(PciConfig.Bar0 + index * 4);
            if (_kinds[index] is BarKind.Memory64 or BarKind.Prefetchable64)
                address |= (ulong)Config.Get32(PciConfig.Bar0 + index * 4 + 4) << 32;
            address &= ~(region.Size - 1);
        }
        MemoryRegion space = io ? Bus.IoSpace : Bus.MemorySpace;
        // An address of zero, or one from sizing (all ones), is not decoded.
        enabled &= address != 0 && address < space.Size && region.Size <= space.Size - address
            && !(!io && address + region.Size == 1UL << 32);
        space.Place(region, enabled ? address : 0);
    }
}
