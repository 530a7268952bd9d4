namespace Qkvm.Hw.Net;

/// <summary>Registers of the RTL8139C+. RealTek, "RTL8139C(L)+" data sheet 1.6, section 6.</summary>
/// <param name="Size">Bytes.</param>
/// <param name="Writable">Bits that a driver's write changes.</param>
/// <param name="IsLocked">Written only while 9346CR enables it.</param>
readonly record struct Rtl8139Register(string Name, int Offset, int Size, uint Reset = 0, uint Writable = 0,
    bool IsLocked = false)
{
    public const int IDR = 0x00, MAR = 0x08, TSD = 0x10, TSAD = 0x20, THPDS = 0x28, RBSTART = 0x30, CR = 0x37,
        CAPR = 0x38, CBR = 0x3A, IMR = 0x3C, ISR = 0x3E, TCR = 0x40, RCR = 0x44, TCTR = 0x48, MPC = 0x4C, CR9346 = 0x50,
        CONFIG1 = 0x52, TIMERINT = 0x54, MSR = 0x58, TSADS = 0x60, BMCR = 0x62, BMSR = 0x64, ANLPAR = 0x68,
        TPPOLL = 0xD9, CPCR = 0xE0, RDSAR = 0xE4;

    /// <summary>In C+ mode, where the first transmit status is in C mode.</summary>
    public const int DTCCR = 0x10, TNPDS = 0x20;

    // CR
    public const byte BufferEmpty = 1, TransmitEnable = 4, ReceiveEnable = 8, SoftReset = 0x10;

    // TSD
    public const uint SizeMask = 0x1FFF, Own = 0x2000, Sent = 0x8000, Settable = 0x003F_1FFF;

    // ISR, IMR
    public const ushort ROK = 1, RER = 2, TOK = 4, TER = 8, RXOVW = 0x10, LinkChange = 0x20, FOVW = 0x40, TDU = 0x80,
        SWInt = 0x100, TimeOut = 0x4000, AllCauses = 0xE1FF;

    // RCR
    public const uint AcceptAll = 1, AcceptMatch = 2, AcceptMulticast = 4, AcceptBroadcast = 8, Wrap = 0x80;
    public const int BufferLength = 11;

    // CPCR
    public const ushort PlusTransmit = 1, PlusReceive = 2, ReceiveChecksum = 0x20, StripTag = 0x40;

    public static readonly Rtl8139Register[] Table =
    [
        new("IDR0-3", IDR, 4, 0, ~0u, true), new("IDR4-5", IDR + 4, 2, 0, 0xFFFF, true),
        new("MAR0-3", MAR, 4, 0, ~0u), new("MAR4-7", MAR + 4, 4, 0, ~0u),
        new("TSD0", TSD, 4, Own, ~0u), new("TSD1", TSD + 4, 4, Own, ~0u), new("TSD2", TSD + 8, 4, Own, ~0u),
        new("TSD3", TSD + 12, 4, Own, ~0u),
        new("TSAD0", TSAD, 4, 0, ~0u), new("TSAD1", TSAD + 4, 4, 0, ~0u), new("TSAD2", TSAD + 8, 4, 0, ~0u),
        new("TSAD3", TSAD + 12, 4, 0, ~0u),
        new("RBSTART", RBSTART, 4, 0, ~0u), new("ERBCR", 0x34, 2), new("ERSR", 0x36, 1),
        new("CR", CR, 1, BufferEmpty, TransmitEnable | ReceiveEnable),
        new("CAPR", CAPR, 2, 0xFFF0, 0xFFFF), new("CBR", CBR, 2), new("IMR", IMR, 2, 0, AllCauses),
        new("ISR", ISR, 2), new("TCR", TCR, 4, 0x7480_0000, 0x0307_07F0), new("RCR", RCR, 4, 0, 0x0F00_FFBF),
        new("TCTR", TCTR, 4), new("MPC", MPC, 4), new("9346CR", CR9346, 1, 0, 0xCE),
        new("CONFIG0", 0x51, 1), new("CONFIG1", CONFIG1, 1, 0x0C, 0xF3, true), new("TIMERINT", TIMERINT, 4, 0, ~0u),
        new("MSR", MSR, 1, 0xD0, 0xC0), new("CONFIG3", 0x59, 1, 1, 0xA9, true), new("CONFIG4", 0x5A, 1, 0, 0xFD, true),
        new("MULINT", 0x5C, 2, 0, 0xFFF), new("RERID", 0x5E, 1, 0x20),
        new("TSADS", TSADS, 2), new("BMCR", BMCR, 2, 0x1100, 0x3300), new("BMSR", BMSR, 2, 0x7809),
        new("ANAR", 0x66, 2, 0x05E1, 0x2DFF), new("ANLPAR", ANLPAR, 2, 0x05E1), new("ANER", 0x6A, 2, 1),
        new("DIS", 0x6C, 2), new("FCSC", 0x6E, 2), new("NWAYTR", 0x70, 2, 0, 0xFF), new("REC", 0x72, 2),
        new("CSCR", 0x74, 2, 0x03C0, 0x83FF), new("PHY1_PARM", 0x78, 4, 0, ~0u), new("TW_PARM", 0x7C, 4, 0, ~0u),
        new("PHY2_PARM", 0x80, 1, 0, 0xFF), new("CONFIG5", 0xD8, 1, 0, 0x7F, true), new("TPPOLL", TPPOLL, 1),
        new("CPCR", CPCR, 2, 0, 0x007B), new("RDSAR", RDSAR, 4, 0, 0xFFFF_FF00), new("RDSARH", RDSAR + 4, 4, 0, ~0u),
        new("ETTHR", 0xEC, 1, 0, 0x3F),
    ];
}
