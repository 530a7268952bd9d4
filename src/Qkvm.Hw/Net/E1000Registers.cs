namespace Qkvm.Hw.Net;

/// <summary>Registers that the 82540EM and the 82574 share. Intel 317453, chapter 13; 82574 data sheet, section
/// 10.</summary>
static class E1000Registers
{
    public const int CTRL = 0x0000, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014, CTRL_EXT = 0x0018, MDIC = 0x0020,
        VET = 0x0038, ICR = 0x00C0, ITR = 0x00C4, ICS = 0x00C8, IMS = 0x00D0, IMC = 0x00D8, RCTL = 0x0100,
        TCTL = 0x0400, LEDCTL = 0x0E00, PBA = 0x1000, RDBAL = 0x2800, RDTR = 0x2820, RADV = 0x282C, TDBAL = 0x3800,
        TIDV = 0x3820, TADV = 0x382C, RXCSUM = 0x5000, MTA = 0x5200, RAL = 0x5400, RAH = 0x5404, VFTA = 0x5600,
        MANC = 0x5820;

    /// <summary>Of a ring, from its first register on.</summary>
    public const int BaseLow = 0x00, BaseHigh = 0x04, Length = 0x08, Head = 0x10, Tail = 0x18;

    // Statistics, section 13.7
    public const int MPC = 0x4010, PRC64 = 0x405C, GPRC = 0x4074, BPRC = 0x4078, MPRC = 0x407C, GPTC = 0x4080,
        GORCL = 0x4088, GOTCL = 0x4090, RNBC = 0x40A0, RUC = 0x40A4, ROC = 0x40AC, TORL = 0x40C0, TOTL = 0x40C8,
        TPR = 0x40D0, TPT = 0x40D4, PTC64 = 0x40D8, MPTC = 0x40F0, BPTC = 0x40F4, TSCTC = 0x40F8;

    public const int Addresses = 16, MulticastWords = 128, VlanWords = 128;
    public const uint AddressValid = 1u << 31;                     // RAH.AV

    // CTRL
    public const uint FullDuplex = 1, SetLinkUp = 1 << 6, DeviceReset = 1u << 26, VlanMode = 1u << 30,
        PhyReset = 1u << 31;

    // STATUS
    public const uint LinkUp = 2;

    // RCTL
    public const uint ReceiveEnable = 1 << 1, StoreBad = 1 << 2, UnicastPromiscuous = 1 << 3,
        MulticastPromiscuous = 1 << 4, LongPackets = 1 << 5, Loopback = 3 << 6, AcceptBroadcast = 1 << 15,
        VlanFilter = 1 << 18, CfiFilter = 1 << 19, Cfi = 1 << 20, SizeExtension = 1 << 25, StripCrc = 1 << 26;
    public const int MinimumThreshold = 8, DescriptorType = 10, MulticastOffset = 12, BufferSize = 16;

    // TCTL
    public const uint TransmitEnable = 1 << 1, PadShort = 1 << 3;

    // RXCSUM
    public const uint IpOffload = 1 << 8, TransportOffload = 1 << 9;

    // ICR, ICS, IMS, IMC
    public const uint TXDW = 1, TXQE = 2, LSC = 4, RXDMT0 = 0x10, RXO = 0x40, RXT0 = 0x80, MDAC = 0x200,
        TXD_LOW = 0x8000, CausesOf82540 = 0x1FFFF;

    /// <summary>Section 13.7: reading clears.</summary>
    public static readonly Register[] Statistics =
    [
        .. Counters(0x4000, "CRCERRS ALGNERRC SYMERRS RXERRC MPC SCC ECOL MCC LATECOL . COLC . DC TNCRS SEC CEXTERR "
            + "RLEC . XONRXC XONTXC XOFFRXC XOFFTXC FCRUC PRC64 PRC127 PRC255 PRC511 PRC1023 PRC1522 GPRC BPRC MPRC "
            + "GPTC . GORCL GORCH GOTCL GOTCH . . RNBC RUC RFC ROC RJC MGTPRC MGTPDC MGTPTC TORL TORH TOTL TOTH TPR "
            + "TPT PTC64 PTC127 PTC255 PTC511 PTC1023 PTC1522 MPTC BPTC TSCTC TSCTFC IAC ICRXPTC ICRXATC ICTXPTC "
            + "ICTXATC . ICTXQEC ICTXQMTC ICRXDMTC ICRXOC"),
    ];

    /// <summary>Filters, section 13.5.</summary>
    public static readonly Register[] Filters =
    [
        new("MTA", MTA, Count: MulticastWords), new("RA", RAL, Count: 2 * Addresses),
        new("VFTA", VFTA, Count: VlanWords),
    ];

    /// <param name="name">"RD" or "TD".</param>
    public static IEnumerable<Register> Ring(string name, int at, string queue = "") =>
    [
        new($"{name}BAL{queue}", at + BaseLow, Writable: 0xFFFF_FFF0), new($"{name}BAH{queue}", at + BaseHigh),
        new($"{name}LEN{queue}", at + Length, Writable: 0x000F_FF80),
        new($"{name}H{queue}", at + Head, Writable: 0xFFFF), new($"{name}T{queue}", at + Tail, Writable: 0xFFFF),
    ];

    /// <summary>Names in the order of offsets; a dot for none; L and H are the halves of a long one.</summary>
    static IEnumerable<Register> Counters(int at, string names)
    {
        foreach (string name in names.Split(' '))
        {
            OnRead onRead = name switch
            {
                "GORCL" or "GOTCL" or "TORL" or "TOTL" => OnRead.Stays,
                "GORCH" or "GOTCH" or "TORH" or "TOTH" => OnRead.ClearsWithLower,
                _ => OnRead.Clears,
            };
            if (name != ".") yield return new(name, at, Writable: 0, OnRead: onRead);
            at += 4;
        }
    }
}
