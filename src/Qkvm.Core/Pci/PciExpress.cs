namespace Qkvm.Core.Pci;

/// <summary>Device/Port Type. PCI Express Base 3.0, table 7-11.</summary>
public enum ExpressKind
{
    Endpoint = 0, RootPort = 4, UpstreamPort = 5, DownstreamPort = 6, PciBridge = 7,

    /// <summary>A function on the root bus itself.</summary>
    IntegratedEndpoint = 9,
}

/// <summary>The fastest and widest that a link can be, as the Link Capabilities register codes them.</summary>
public readonly record struct ExpressLink(int Speed, int Width)
{
    /// <summary>2.5 GT/s, one lane.</summary>
    public static readonly ExpressLink Slowest = new(1, 1);

    /// <summary>16 GT/s, 32 lanes.</summary>
    public static readonly ExpressLink Fastest = new(4, 32);

    public ushort Code => (ushort)(Width << 4 | Speed);
}

/// <summary>The PCI Express capability structure, and the extended capabilities that ports have. Spec: PCI Express Base
/// 3.0, sections 7.8, 7.10 and 7.16; version 1 of the structure: PCI Express Base 1.1, section 7.8.</summary>
/// <remarks>Deviations: no error is ever signalled, no link ever retrains.</remarks>
public sealed class PciExpress
{
    // Offsets, section 7.8
    public const int SlotControl = 0x18, SlotStatus = 0x1A;

    const byte CapabilityId = 0x10;
    const int Length1 = 0x14, Length2 = 0x3C;
    const int Flags = 0x02, DeviceCapabilities = 0x04, DeviceControl = 0x08, LinkCapabilities = 0x0C,
        LinkStatus = 0x12, SlotCapabilities = 0x14, RootControl = 0x1C, DeviceCapabilities2 = 0x24,
        DeviceControl2 = 0x28, LinkCapabilities2 = 0x2C, LinkControl2 = 0x30;

    const int KindShift = 4;
    const ushort SlotImplemented = 0x0100;
    const uint RoleBasedErrors = 0x8000, FunctionLevelReset = 1 << 28;
    const ushort InitiateReset = 0x8000;                           // of Device Control
    const ushort ErrorReporting = 0x000F, RootErrorBits = 0x0007;
    const uint ActiveStateL0s = 0x0400, ActiveReporting = 1 << 20, BandwidthNotification = 1 << 21;
    const ushort LinkActive = 0x2000;
    const uint ExtendedFormat = 1 << 20, EndToEndPrefix = 1 << 21, AlternativeRouting = 1 << 5;
    const ushort PrefixBlocking = 0x8000;
    const int PortNumberShift = 24;

    readonly PciConfig _config;
    readonly int _at;
    readonly ushort _link;
    readonly bool _isPort, _reportsActive;

    /// <param name="at">Where its structure goes; 0 for the next free place.</param>
    /// <param name="port">Port Number; 0 of what is no port.</param>
    /// <param name="resetsFunctions">The device asks <see cref="TakeReset"/> for function level resets.</param>
    /// <param name="version">Of the structure, 1 or 2.</param>
    public PciExpress(PciConfig config, ExpressKind kind, ExpressLink link, int at = 0, byte port = 0,
        bool resetsFunctions = false, int version = 2)
    {
        _config = config;
        _link = link.Code;
        _isPort = kind is ExpressKind.RootPort or ExpressKind.DownstreamPort;
        _at = config.AddCapability(CapabilityId, version == 1 ? Length1 : Length2, at);
        config.Define16(_at + Flags, (ushort)(version | (int)kind << KindShift | (_isPort ? SlotImplemented : 0)));
        config.Define32(_at + DeviceCapabilities, RoleBasedErrors | (resetsFunctions ? FunctionLevelReset : 0));
        if (version > 1)
            config.Define16(_at + DeviceControl, 0, (ushort)(ErrorReporting | (resetsFunctions ? InitiateReset : 0)));
        uint reporting = _isPort && link.Speed > 1 ? ActiveReporting | BandwidthNotification : 0;
        _reportsActive = reporting != 0;
        config.Define32(_at + LinkCapabilities, _link | ActiveStateL0s | reporting | (uint)port << PortNumberShift);
        config.Define16(_at + LinkStatus, _link);
        if (version == 1) return;
        if (kind == ExpressKind.RootPort) config.Define16(_at + RootControl, 0, RootErrorBits);
        uint routing = _isPort || kind == ExpressKind.PciBridge ? AlternativeRouting : 0;
        config.Define32(_at + DeviceCapabilities2, ExtendedFormat | EndToEndPrefix | routing);
        config.Define16(_at + DeviceControl2, 0, (ushort)(PrefixBlocking | routing));
        if (link.Speed <= 1) return;
        config.Define32(_at + LinkCapabilities2, (1u << link.Speed + 1) - 2);
        config.Define16(_at + LinkControl2, (ushort)link.Speed);
    }

    /// <summary>Of the Slot Control and Slot Status registers.</summary>
    public ushort this[int register]
    {
        get => _config.Get16(_at + register);
        set => _config.Set16(_at + register, value);
    }

    /// <summary>Section 7.8.9 to 7.8.11.</summary>
    public void DefineSlot(uint capabilities, ushort control, ushort writable, ushort clearable)
    {
        _config.Define32(_at + SlotCapabilities, capabilities);
        _config.Define16(_at + SlotControl, control, writable);
        _config.Define16(_at + SlotStatus, 0, 0, clearable);
    }

    /// <summary>Whether a write touched the Slot Control register.</summary>
    public bool IsSlotControl(int offset, int size) =>
        offset < _at + SlotControl + 2 && offset + size > _at + SlotControl;

    /// <summary>Whether the guest has just asked for a function level reset, section 6.6.2; told once.</summary>
    public bool TakeReset()
    {
        ushort control = _config.Get16(_at + DeviceControl);
        if ((control & InitiateReset) == 0) return false;
        _config.Set16(_at + DeviceControl, (ushort)(control & ~InitiateReset));
        return true;
    }

    /// <summary>Something is on the link, or nothing.</summary>
    public void SetLinkUp(bool up) =>
        _config.Set16(_at + LinkStatus, (ushort)(up ? 0x0011 | (_reportsActive ? LinkActive : 0) : _link));

    /// <summary>Power management, whose states change nothing. PCI Power Management 1.2, section 3.2.</summary>
    /// <param name="capabilities">The PMC register.</param>
    /// <param name="writable">Bits of the PMCSR register; <paramref name="clearable"/> by writing ones.</param>
    public static void AddPowerManagement(PciConfig config, int at = 0, ushort capabilities = 3, ushort writable = 3,
        ushort clearable = 0)
    {
        const byte PowerManagement = 0x01;
        at = config.AddCapability(PowerManagement, 8, at);
        config.Define16(at + 2, capabilities);
        config.Define16(at + 4, 0, writable, clearable);
    }

    /// <summary>Advanced Error Reporting, section 7.10.</summary>
    /// <param name="isPort">Of a root or a switch: it can record several headers.</param>
    public static void AddErrorReporting(PciConfig config, bool isRoot = false, bool isPort = true)
    {
        int at = config.AddExtendedCapability(0x0001, 2, isPort ? 0x48 : 0x40); // without a log of prefixes
        config.Define32(at + 0x0C, 0x0046_2030, 0x03FF_F030);      // uncorrectable error severity
        config.Define32(at + 0x14, 0x0000_E000, 0x0000_F1C1);      // correctable error mask
        config.Define32(at + 0x18, isPort ? 0x02A0u : 0x00A0, isPort ? 0x0540u : 0x0140); // capabilities and control
        if (isRoot) config.Define32(at + 0x2C, 0, 7);              // root error command
    }

    /// <summary>Device Serial Number, section 7.12: of a network card its address as an EUI-64.</summary>
    public static void AddSerialNumber(PciConfig config, ReadOnlySpan<byte> mac)
    {
        int at = config.AddExtendedCapability(0x0003, 1, 12);
        ReadOnlySpan<byte> number = [mac[5], mac[4], mac[3], 0xFF, 0xFF, mac[2], mac[1], mac[0]];
        for (int i = 0; i < number.Length; i++) config.Define(at + 4 + i, number[i]);
    }

    /// <summary>Access Control Services, section 7.16.</summary>
    public static void AddAccessControl(PciConfig config)
    {
        int at = config.AddExtendedCapability(0x000D, 1, 8);
        config.Define16(at + 4, 0x005F);
        config.Define16(at + 6, 0, 0x005F);
    }

    /// <summary>Address Translation Services, extended capability 0Fh: pages are aligned, software may switch it on.
    /// PCI Express Base 4.0, section 10.5.1.</summary>
    public static void AddAddressTranslation(PciConfig config)
    {
        const ushort aligned = 1 << 5, enable = 1 << 15, smallestUnit = 0x1F;
        int at = config.AddExtendedCapability(0x000F, 1, 8);
        config.Define16(at + 4, aligned);
        config.Define16(at + 6, 0, enable | smallestUnit);
    }
}
