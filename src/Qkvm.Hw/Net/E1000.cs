using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>What shapes an e1000.</summary>
/// <param name="Mitigates">Interrupts keep the distance that ITR and the delay timers ask for.</param>
/// <param name="Negotiates">The link takes half a second to come.</param>
/// <param name="KnowsAll">Registers that the card's smallest drivers do without.</param>
/// <param name="ResetsVet">VET is 802.1Q's type after a reset, else zero.</param>
public sealed record E1000Options(bool Mitigates = true, bool Negotiates = true, bool KnowsAll = true,
    bool ResetsVet = true);

/// <summary>Intel 82540EM. "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual", Intel
/// 317453.</summary>
/// <remarks>Deviations: frames wait on the wire where the driver has given no descriptors; the FCS that a driver asks
/// to keep reads as zeros; absolute delays count from the last interrupt, and frames come without RDTR's delay; no flow
/// control, wake-up, management or flash.</remarks>
public sealed partial class E1000 : E1000Family
{
    const ulong MemorySize = 128 << 10, PortSize = 64;
    const int RegisterSpace = 0x6000;
    const ulong IoAddress = 0, IoData = 4;
    const long ItrUnit = 256, DelayUnit = 1024;                    // nanoseconds
    const int FcsLength = 4;

    // Receive descriptor, section 3.2.3
    const byte Done = 1, EndOfPacket = 2, VlanPacket = 8;
    const int StatusShift = 32, SpecialShift = 48;

    static readonly PhyModel M88E1011 = new(
        [
            (0, 0x1140), (1, 0x794D), (2, 0x0141), (3, 0x0C20), (4, 0x0DE1), (5, 0x01E0), (9, 0x0E00), (10, 0x3C00),
            (16, 0x0360), (17, 0xAC00), (20, 0x0D60),
        ], [0, 4, 7, 9, 16, 18, 20]);

    internal static readonly Register[] Table =
    [
        new("CTRL", CTRL, 0x0014_0240, ~(DeviceReset | PhyReset)), new("STATUS", STATUS, 0x8008_0783, 0),
        new("EECD", EECD), new("EERD", EERD), new("CTRL_EXT", CTRL_EXT), new("FLA", 0x001C), new("MDIC", MDIC),
        new("FCAL", 0x0028), new("FCAH", 0x002C, Writable: 0xFFFF), new("FCT", 0x0030, Writable: 0xFFFF),
        new("VET", VET, 0x8100, 0xFFFF), new("ICR", ICR, Writable: 0), new("ITR", ITR, Writable: 0xFFFF),
        new("ICS", ICS, Writable: 0), new("IMS", IMS, Writable: 0), new("IMC", IMC, Writable: 0),
        new("RCTL", RCTL), new("FCTTV", 0x0170, Writable: 0xFFFF), new("TXCW", 0x0178), new("RXCW", 0x0180, 0, 0),
        new("TCTL", TCTL), new("TIPG", 0x0410), new("AIT", 0x0458, Writable: 0xFFFF),
        new("LEDCTL", LEDCTL, 0x0000_0602), new("PBA", PBA, 0x0010_0030),
        new("FCRTL", 0x2160), new("FCRTH", 0x2168),
        new("RDFH", 0x2410, Writable: 0x1FFF), new("RDFT", 0x2418, Writable: 0x1FFF),
        new("RDFHS", 0x2420, Writable: 0x1FFF), new("RDFTS", 0x2428, Writable: 0x1FFF),
        new("RDFPC", 0x2430, Writable: 0x1FFF),
        .. Ring("RD", RDBAL), new("RDTR", RDTR, Writable: 0xFFFF), new("RXDCTL", 0x2828),
        new("RADV", RADV, Writable: 0xFFFF), new("RSRPD", 0x2C00, Writable: 0xFFF), new("TXDMAC", 0x3000, Writable: 1),
        new("TDFH", 0x3410, Writable: 0x7FF), new("TDFT", 0x3418, Writable: 0x7FF),
        new("TDFHS", 0x3420, Writable: 0x1FFF), new("TDFTS", 0x3428, Writable: 0x1FFF),
        new("TDFPC", 0x3430, Writable: 0x1FFF),
        .. Ring("TD", TDBAL), new("TIDV", TIDV, Writable: 0xFFFF), new("TXDCTL", 0x3828),
        new("TADV", TADV, Writable: 0xFFFF), new("TSPMT", 0x3830),
        .. Statistics, new("RXCSUM", RXCSUM, Writable: 0x7FF), .. Filters,
        new("WUC", 0x5800), new("WUFC", 0x5808), new("WUS", 0x5810, 0, 0), new("MANC", MANC, 0x0022_2300),
        new("IPAV", 0x5838), new("IP4AT", 0x5840, Count: 7), new("IP6AT", 0x5880, Count: 4),
        new("WUPL", 0x5900, 0, 0), new("WUPM", 0x5A00, Count: 32), new("SWSM", 0x5B50),
    ];

    /// <summary>Without extra_mac_registers.</summary>
    static readonly string[] Extra =
    [
        "FCRUC", "AIT", "RDFH", "RDFT", "RDFHS", "RDFTS", "RDFPC", "RSRPD", "TDFH", "TDFT", "TDFHS", "TDFTS", "TDFPC",
        "IPAV", "IP4AT", "IP6AT", "WUPM", "SWSM",
    ];

    readonly E1000Options _options;
    readonly E1000Eeprom _eeprom;
    readonly CardTimer _throttle;
    uint _ioAddress;
    bool _isTransmitDelayed;                                       // the last TXDW asked for it

    public E1000(NetCardSite site, E1000Options options)
        : base(new PciIdentity(0x8086, 0x100E, 0x020000, Revision: 3), "e1000", false, site,
            new RegisterFile(options.KnowsAll ? Table : Table.Where(r => !Extra.Contains(r.Name)), RegisterSpace),
            M88E1011, [TDBAL], options.Negotiates)
    {
        _options = options;
        _eeprom = new E1000Eeprom(site.Mac);
        _throttle = new CardTimer(site.Clock, UpdateInterrupt);
        Bar(0, MemoryRegion.Io("e1000-mmio", MemorySize, this, AccessSizes.Dwords), BarKind.Memory32);
        Bar(1, MemoryRegion.Io("e1000-io", PortSize, new IoWindow(this), AccessSizes.Dwords), BarKind.Io);
        ResetDevice();
    }

    public override string InstalledRom => "efi-e1000.rom";

    public override ulong Read(ulong offset, int size)
    {
        switch ((int)offset)
        {
            case EECD: return _eeprom.ReadControl();
            case IMC: return 0;
            case ICS: return 0;
            case ICR:
                uint causes = Registers[ICR];
                Registers[ICR] = 0;
                UpdateInterrupt();
                return causes;
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
                if ((word & PhyReset) != 0) ResetLink();
                if ((word & DeviceReset) != 0) ResetCard();
                break;
            case EECD: _eeprom.WriteControl(word); break;
            case EERD: Registers[EERD] = _eeprom.Execute(word); break;
            case TDBAL + Tail or TCTL:
                Registers.GuestWrite((int)offset, word);
                Transmit();
                break;
            default: WriteShared((int)offset, word, CausesOf82540); break;
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
        _eeprom.Exchange(state.Group("eeprom"));
        _throttle.Exchange(state, "throttle");
        state.Field("io-address", ref _ioAddress);
        state.Field("transmit-delayed", ref _isTransmitDelayed);
    }

    internal override void Sent(int ring, uint causes, bool isDelayed)
    {
        _isTransmitDelayed = isDelayed;
        Raise(causes);
    }

    private protected override void Raise(uint causes)
    {
        Registers[ICR] |= causes;
        UpdateInterrupt();
    }

    private protected override bool IsReceiveEnabled => (Registers[RCTL] & ReceiveEnable) != 0;

    private protected override int Available => new E1000Ring(Registers, RDBAL).Available;

    private protected override bool HasRoom(int frames, int longest, out int missing)
    {
        var ring = new E1000Ring(Registers, RDBAL);
        int each = (longest + Fcs + BufferLength - 1) / BufferLength, needed = frames * each;
        missing = needed < ring.Size ? needed : 0;
        return needed <= ring.Available;
    }

    private protected override bool Deliver(Span<byte> frame, ushort? tag, in NetHeader header)
    {
        var ring = new E1000Ring(Registers, RDBAL);
        int fcs = Fcs, all = frame.Length + fcs, buffer = BufferLength;
        if (ring.Available < (all + buffer - 1) / buffer) return false;
        ulong last = ReceiveStatus.Of(Registers[RXCSUM], frame, header) | (ulong)EndOfPacket << StatusShift;
        if (tag is { } special) last |= (ulong)VlanPacket << StatusShift | (ulong)special << SpecialShift;
        ReadOnlySpan<byte> left = frame;
        while (all > 0)
        {
            int count = Math.Min(all, buffer), bytes = Math.Min(count, left.Length);
            ulong address = ring.Address, target = Dma.Read(address, 8);
            Dma.Write(target, left[..bytes]);
            if (bytes < count) Dma.Write(target + (ulong)bytes, Zeros[..(count - bytes)]);
            left = left[bytes..];
            all -= count;
            Dma.Write(address + 8, 8, (uint)count | (ulong)Done << StatusShift | (all == 0 ? last : 0));
            ring.Advance();
        }
        int threshold = ring.Size >> 1 + (int)(Registers[RCTL] >> MinimumThreshold & 3);
        Raise(RXT0 | (ring.Available <= threshold ? RXDMT0 : 0));
        return true;
    }

    static ReadOnlySpan<byte> Zeros => [0, 0, 0, 0];

    int Fcs => (Registers[RCTL] & StripCrc) != 0 ? 0 : FcsLength;

    /// <summary>RCTL.BSIZE and BSEX.</summary>
    int BufferLength
    {
        get
        {
            uint control = Registers[RCTL];
            int length = 2048 >> (int)(control >> BufferSize & 3);
            return (control & SizeExtension) != 0 && length < 2048 ? length * 16 : length;
        }
    }

    void ResetCard()
    {
        ResetMac();
        if (!_options.ResetsVet) Registers[VET] = 0;
        _eeprom.Reset();
        _throttle.Cancel();
        (_ioAddress, _isTransmitDelayed) = (0, false);
        IntX.Set(false);
    }

    /// <summary>INTA# follows the causes that are not masked; after it rose it does not rise again for a while. Section
    /// 3.2.7 and 13.4.18.</summary>
    private protected override void UpdateInterrupt()
    {
        uint pending = Registers[ICR] & Registers[IMS];
        if (pending != 0 && !IntX.Level)
        {
            if (_throttle.IsArmed) return;
            if (Distance(pending) is > 0 and var distance) _throttle.ArmIn(distance);
        }
        IntX.Set(pending != 0);
    }

    /// <summary>To the next interrupt, in nanoseconds: the least that a timer asks for.</summary>
    long Distance(uint pending)
    {
        if (!_options.Mitigates) return 0;
        long distance = 0;
        Shorten(Registers[ITR] * ItrUnit);
        if (_isTransmitDelayed && (pending & (TXDW | TXQE)) != 0) Shorten(Registers[TADV] * DelayUnit);
        if (Registers[RDTR] != 0 && (pending & (RXT0 | RXDMT0)) != 0) Shorten(Registers[RADV] * DelayUnit);
        return distance;

        void Shorten(long asked)
        {
            if (asked > 0 && (distance == 0 || asked < distance)) distance = asked;
        }
    }

    /// <summary>IOADDR and IODATA. Section 13.3.2.</summary>
    sealed class IoWindow(E1000 card) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => offset switch
        {
            IoAddress => card._ioAddress,
            IoData when card._ioAddress < MemorySize => card.Read(card._ioAddress & ~3u, 4),
            _ => 0,
        };

        public void Write(ulong offset, int size, ulong value)
        {
            if (offset == IoAddress) card._ioAddress = (uint)value & (uint)(MemorySize - 1);
            else if (offset == IoData) card.Write(card._ioAddress & ~3u, 4, value);
        }
    }
}
