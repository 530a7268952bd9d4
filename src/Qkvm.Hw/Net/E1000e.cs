using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>What shapes an e1000e.</summary>
/// <param name="ResetsVet">VET is 802.1Q's type after a reset, else zero.</param>
/// <param name="IsIntegrated">It sits on the root bus of PCI Express itself.</param>
public sealed record E1000eOptions(ushort SubsystemVendor = 0x8086, ushort Subsystem = 0, bool ResetsVet = true,
    bool IsIntegrated = false);

/// <summary>Intel 82574L. "82574 GbE Controller Family Datasheet", Intel 317694, revision 3.4.</summary>
/// <remarks>Deviations: frames wait on the wire where the driver has given no descriptors; the FCS that a driver asks
/// to keep reads as zeros; all frames come to the first receive queue, without an RSS hash; a packet is not split after
/// its header; no MSI, time stamps, flow control, wake-up or management; registers have no aliases; the flash and the
/// NVM cannot be written.</remarks>
public sealed partial class E1000e : E1000Family
{
    const ulong MemorySize = 128 << 10, FlashSize = 128 << 10, PortSize = 32, VectorSize = 16 << 10;
    const uint PendingOffset = 0x2000;
    const int RegisterSpace = 0x6000, Vectors = 5;
    const int EIAC = 0x00DC, IAM = 0x00E0, IVAR = 0x00E4, EITR = 0x00E8, PSRCTL = 0x2170, RFCTL = 0x5008,
        SecondTransmit = 0x3900, SWSM = 0x5B50, GCR = 0x5B00;

    // CTRL, STATUS, CTRL_EXT
    const uint MasterDisable = 1 << 2, MasterEnabled = 1 << 19, AutoMaskOnVector = 1 << 24, AutoMaskOnRead = 1 << 27;

    // ICR: queues, other causes, and that an interrupt is asserted
    const uint RXQ0 = 1 << 20, RXQ1 = 1 << 21, TXQ0 = 1 << 22, TXQ1 = 1 << 23, Other = 1 << 24, Asserted = 1u << 31;
    const uint OtherCauses = LSC | RXO | MDAC | 7u << 16, AllCauses = 0x01F7_83DF | 7 << 16 | TXQE;
    const long Unit = 256;                                         // nanoseconds, of ITR and EITR

    static readonly PhyModel Bm = new(
        [
            (0, 0x1140), (1, 0x794D), (2, 0x0141), (3, 0x0CB1), (4, 0x0DE1), (5, 0x01E0), (6, 4), (7, 0x2001),
            (9, 0x0F00), (10, 0x3C00), (15, 0x3000), (16, 0x3360), (17, 0xAC08),
        ], [0, 4, 7, 9, 16, 18, 20, 22, 29, 30, 31]);

    internal static readonly Register[] Table =
    [
        new("CTRL", CTRL, 0x0014_0241, ~(DeviceReset | PhyReset)), new("STATUS", STATUS, 0x0008_0283, 0x400),
        new("EECD", EECD, 0x300, 0x70), new("EERD", EERD, 2), new("CTRL_EXT", CTRL_EXT, 0, 0xFFFF_CFFF),
        new("FLA", 0x001C), new("MDIC", MDIC), new("FCAL", 0x0028), new("FCAH", 0x002C, Writable: 0xFFFF),
        new("FCT", 0x0030, Writable: 0xFFFF), new("VET", VET, 0x8100, 0xFFFF), new("ICR", ICR, Writable: 0),
        new("ITR", ITR, Writable: 0xFFFF), new("ICS", ICS, Writable: 0), new("IMS", IMS, Writable: 0),
        new("EIAC", EIAC), new("IMC", IMC, Writable: 0), new("IAM", IAM), new("IVAR", IVAR),
        new("EITR", EITR, Writable: 0xFFFF, Count: Vectors),
        new("RCTL", RCTL), new("FCTTV", 0x0170, Writable: 0xFFFF), new("TCTL", TCTL), new("TIPG", 0x0410, 0x0060_2008),
        new("AIT", 0x0458, Writable: 0xFFFF), new("LEDCTL", LEDCTL, 0x0006_8302), new("EXTCNF_CTRL", 0x0F00, 8),
        new("EXTCNF_SIZE", 0x0F08), new("PHY_CTRL", 0x0F10, 0x30D), new("PBA", PBA, 0x0014_0014),
        new("PBS", 0x1008, 0x28, 0x3F), new("EEMNGCTL", 0x1010, 0x8000_0000), new("FLASHT", 0x1028, 2, 0xFFFF),
        new("EEWR", 0x102C, 2, 0), new("FLSWCTL", 0x1030, 0xC000_0000), new("FLSWDATA", 0x1034),
        new("FLSWCNT", 0x1038), new("FLOP", 0x103C), new("FLOL", 0x1050, 1),
        new("FCRTL", 0x2160, Writable: 0x8000_FFF8), new("FCRTH", 0x2168, Writable: 0xFFF8),
        new("PSRCTL", PSRCTL, 0x0004_0402),
        new("RDFH", 0x2410, Writable: 0x1FFF), new("RDFT", 0x2418, Writable: 0x1FFF),
        new("RDFHS", 0x2420, Writable: 0x1FFF), new("RDFTS", 0x2428, Writable: 0x1FFF),
        new("RDFPC", 0x2430, Writable: 0x1FFF),
        .. Ring("RD", RDBAL, "0"), new("RDTR", RDTR, Writable: 0xFFFF), new("RXDCTL0", 0x2828, 0x0001_0000),
        new("RADV", RADV, Writable: 0xFFFF), .. Ring("RD", 0x2900, "1"), new("RXDCTL1", 0x2928, 0x0001_0000),
        new("RSRPD", 0x2C00, Writable: 0xFFF), new("RAID", 0x2C08, Writable: 0xFFFF),
        new("TDFH", 0x3410, 0x600, 0x1FFF), new("TDFT", 0x3418, 0x600, 0x1FFF), new("TDFHS", 0x3420, 0x600, 0x1FFF),
        new("TDFTS", 0x3428, 0x600, 0x1FFF), new("TDFPC", 0x3430, Writable: 0x1FFF),
        .. Ring("TD", TDBAL, "0"), new("TIDV", TIDV, Writable: 0xFFFF), new("TXDCTL0", 0x3828),
        new("TADV", TADV, Writable: 0xFFFF), new("TARC0", 0x3840, 0x403, 0x7800_07FF),
        .. Ring("TD", SecondTransmit, "1"), new("TXDCTL1", 0x3928), new("TARC1", 0x3940, 0x403, 0x7800_07FF),
        .. Statistics, new("RXCSUM", RXCSUM, 0x300), new("RFCTL", RFCTL), new("MAVTV", 0x5010, Count: 4), .. Filters,
        new("WUC", 0x5800), new("WUFC", 0x5808), new("WUS", 0x5810), new("MRQC", 0x5818),
        new("MANC", MANC, 0x1000_0000), new("MFUTP01", 0x5828), new("IPAV", 0x5838), new("IP4AT", 0x5840, Count: 7),
        new("MANC2H", 0x5860), new("IP6AT", 0x5880, Count: 4), new("MFVAL", 0x5890, Count: 8),
        new("WUPM", 0x5A00, Count: 32), new("GCR", GCR, 0x0680_0200, 0xF97F_FFFF), new("GSCL", 0x5B10, Count: 4),
        new("GSCN", 0x5B20, Count: 4), new("FACTPS", 0x5B30, 0x2000_0004), new("SWSM", SWSM, 0, 3),
        new("GCR2", 0x5B64), new("PBACLR", 0x5B68, Writable: 0x1F), new("RETA", 0x5C00, Count: 32),
        new("RSSRK", 0x5C80, Count: 32), new("FFLT", 0x5F00, Writable: 0x7FF, Count: 11),
    ];

    static readonly ushort[] Contents =
    [
        0, 0, 0, 0x0420, 0xF746, 0x2010, 0xFFFF, 0xFFFF, 0, 0, 0x026B, 0x10D3, 0x8086, 0x10D3, 0, 0x8058, 0, 0x2001,
        0x7E7C, 0xFFFF, 0x1000, 0x00C8, 0, 0x2704, 0x6CC9, 0x3150, 0x070E, 0x460B, 0x2D84, 0x0100, 0xF000, 0x0706,
        0x6000, 0x0080, 0x0F04, 0x7FFF, 0x4F01, 0xC600, 0, 0x20FF, 0x0028, 0x0003, 0, 0, 0, 3, 0, 0xFFFF, 0x0100,
        0xC000, 0x121C, 0xC007, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0, 0x0120, 0xFFFF, 0,
    ];

    readonly ushort[] _nvm = [.. Contents];
    readonly E1000eOptions _options;
    readonly CardTimer _throttle;
    readonly CardTimer[] _throttles;
    uint _ioAddress;

    public E1000e(NetCardSite site, E1000eOptions options)
        : base(new PciIdentity(0x8086, 0x10D3, 0x020000, 0, options.SubsystemVendor, options.Subsystem), "e1000e", true,
            site, new RegisterFile(Table, RegisterSpace), Bm, [TDBAL, SecondTransmit], negotiates: true)
    {
        _options = options;
        ushort sum = 0xBABA;                                       // section 6.1, "Checksum Word"
        for (int i = 0; i < 3; i++) _nvm[i] = (ushort)(site.Mac[2 * i] | site.Mac[2 * i + 1] << 8);
        for (int i = 0; i < _nvm.Length - 1; i++) sum -= _nvm[i];
        _nvm[^1] = sum;
        _throttle = new CardTimer(site.Clock, UpdateInterrupt);
        _throttles = [.. Enumerable.Range(0, Vectors).Select(_ => new CardTimer(site.Clock, UpdateInterrupt))];
        Bar(0, MemoryRegion.Io("e1000e-mmio", MemorySize, this, AccessSizes.Dwords), BarKind.Memory32);
        Bar(1, MemoryRegion.Io("e1000e-flash", FlashSize, new Flash(), AccessSizes.Dwords), BarKind.Memory32);
        Bar(2, MemoryRegion.Io("e1000e-io", PortSize, new IoWindow(this), AccessSizes.Dwords), BarKind.Io);
        DefineCapabilities(site.Mac);
        var vectors = MemoryRegion.Container("e1000e-msix", VectorSize);
        vectors.Map(0, MsiX!.TableRegion);
        vectors.Map(PendingOffset, MsiX.PendingRegion);
        Bar(3, vectors, BarKind.Memory32);
        ResetDevice();
    }

    public override string InstalledRom => "efi-e1000e.rom";

    public override ulong Read(ulong offset, int size)
    {
        switch ((int)offset)
        {
            case IMC or ICS: return 0;
            case ICR: return ReadCauses();
            case SWSM:
                uint semaphore = Registers[SWSM];
                Registers[SWSM] |= 1;                              // SMBI: whoever reads zero has it
                return semaphore;
            default: return Registers.GuestRead((int)offset);
        }
    }

    public override void Write(ulong offset, int size, ulong value)
    {
        uint word = (uint)value;
        switch ((int)offset)
        {
            case CTRL:
                Registers.GuestWrite(CTRL, word);
                if ((word & MasterDisable) != 0) Registers[STATUS] &= ~MasterEnabled;
                else Registers[STATUS] |= MasterEnabled;
                if ((word & PhyReset) != 0) ResetLink();
                if ((word & DeviceReset) != 0) ResetCard();
                break;
            case EERD:
                int address = (int)(word >> 2 & 0x3FFF);
                uint data = address < _nvm.Length ? _nvm[address] : 0u;
                Registers[EERD] = (word & 1) != 0 ? word & 0xFFFC | 2 | data << 16 : word & 0xFFFC | 2;
                break;
            case TDBAL + Tail or SecondTransmit + Tail or TCTL:
                Registers.GuestWrite((int)offset, word);
                Transmit();
                break;
            default: WriteShared((int)offset, word, AllCauses); break;
        }
    }

    protected override void ResetDevice()
    {
        ResetCard();
        ResetLink();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        ExchangeFamily(state);
        _throttle.Exchange(state, "throttle");
        for (int i = 0; i < Vectors; i++) _throttles[i].Exchange(state.Group("vector", i), "throttle");
        state.Field("io-address", ref _ioAddress);
    }

    internal override void Sent(int ring, uint causes, bool isDelayed)
    {
        if ((causes & TXDW) != 0) causes |= ring == TDBAL ? TXQ0 : TXQ1;
        Raise(causes);
    }

    private protected override void Raise(uint causes)
    {
        if ((causes & OtherCauses) != 0) causes |= Other;
        Registers[ICR] |= causes;
        UpdateInterrupt();
    }

    bool UsesVectors => MsiX!.IsEnabled;

    /// <summary>Section 10.2.4.1: reading clears where an interrupt was asserted or all are masked, and then masks what
    /// IAM names.</summary>
    uint ReadCauses()
    {
        uint causes = Registers[ICR] & ~Asserted;
        bool isAsserted = (causes & Registers[IMS]) != 0;
        if (isAsserted && !UsesVectors && (Registers[CTRL_EXT] & AutoMaskOnRead) != 0)
            Registers[IMS] &= ~Registers[IAM];
        if (isAsserted || UsesVectors || Registers[IMS] == 0) Registers[ICR] = 0;
        UpdateInterrupt();
        return isAsserted ? causes | Asserted : causes;
    }

    private protected override void UpdateInterrupt()
    {
        uint pending = Registers[ICR] & Registers[IMS];
        if (UsesVectors)
        {
            IntX.Set(false);
            SendVector(pending & RXQ0, 0);
            SendVector(pending & RXQ1, 4);
            SendVector(pending & TXQ0, 8);
            SendVector(pending & TXQ1, 12);
            SendVector(pending & Other, 16);
            return;
        }
        if (pending != 0 && !IntX.Level)
        {
            if (_throttle.IsArmed) return;
            if (Registers[ITR] != 0) _throttle.ArmIn(Registers[ITR] * Unit);
        }
        Interrupt(pending != 0);
    }

    /// <summary>Section 7.4.3: the cause's vector by IVAR; then it is cleared as EIAC says, and masked as IAM
    /// says.</summary>
    void SendVector(uint cause, int shift)
    {
        const uint Valid = 8;
        uint entry = Registers[IVAR] >> shift & 15;
        int vector = (int)(entry & 7);
        if (cause == 0 || (entry & Valid) == 0 || vector >= Vectors || _throttles[vector].IsArmed) return;
        uint distance = Registers[EITR + 4 * vector];
        if (distance != 0) _throttles[vector].ArmIn(distance * Unit);
        MsiX!.Notify(vector);
        Registers[ICR] &= ~(cause & Registers[EIAC]);
        if ((Registers[CTRL_EXT] & AutoMaskOnVector) != 0) Registers[IMS] &= ~(cause & Registers[IAM]);
    }

    void ResetCard()
    {
        ResetMac();
        if (!_options.ResetsVet) Registers[VET] = 0;
        _throttle.Cancel();
        foreach (CardTimer throttle in _throttles) throttle.Cancel();
        _ioAddress = 0;
        IntX.Set(false);
    }

    /// <summary>Section 9.3.</summary>
    void DefineCapabilities(ReadOnlySpan<byte> mac)
    {
        const int PowerAt = 0xC8, MsiAt = 0xD0, ExpressAt = 0xE0, MsiXAt = 0xA0;
        const ushort DeviceSpecific = 0x22, StateWakeAndData = 0x1F03, WakeStatus = 0x8000;
        MsiX = new MsiX(this, Vectors, 3, 0, PendingOffset, MsiXAt);
        ExpressKind kind = _options.IsIntegrated ? ExpressKind.IntegratedEndpoint : ExpressKind.Endpoint;
        _ = new PciExpress(Config, kind, ExpressLink.Slowest, ExpressAt, version: 1);
        Msi = new Msi(this, 1, MsiAt);
        PciExpress.AddPowerManagement(Config, PowerAt, DeviceSpecific, StateWakeAndData, WakeStatus);
        PciExpress.AddErrorReporting(Config, isPort: false);
        PciExpress.AddSerialNumber(Config, mac);
    }

    /// <summary>An erased flash.</summary>
    sealed class Flash : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => 0;
        public void Write(ulong offset, int size, ulong value) { }
    }

    /// <summary>IOADDR and IODATA, section 10.2.1.</summary>
    sealed class IoWindow(E1000e card) : IRegisterBank
    {
        const ulong IoAddress = 0, IoData = 4;

        public ulong Read(ulong offset, int size) => offset switch
        {
            IoAddress => card._ioAddress,
            IoData => card.Read(card._ioAddress & ~3u, 4),
            _ => 0,
        };

        public void Write(ulong offset, int size, ulong value)
        {
            if (offset == IoAddress) card._ioAddress = (uint)value & (uint)(MemorySize - 1);
            else if (offset == IoData) card.Write(card._ioAddress & ~3u, 4, value);
        }
    }
}
