namespace Qkvm.Hw.Storage;

/// <summary>Registers of AHCI: offsets, bits, and what the guest may write. AHCI 1.3.1, chapter 3.</summary>
public static class AhciRegisters
{
    /// <param name="Writable">Bits that take what is written.</param>
    /// <param name="Clearable">Bits that writing one clears.</param>
    /// <param name="Settable">Bits that writing one sets.</param>
    public readonly record struct Register(string Name, int Offset, uint Reset = 0, uint Writable = 0,
        uint Clearable = 0, uint Settable = 0);

    // Generic host control, section 3.1
    public const int CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0C, VS = 0x10;

    // GHC
    public const uint HR = 1 << 0, IE = 1 << 1, AE = 1u << 31;

    // Port registers, section 3.3
    public const int PxCLB = 0x00, PxCLBU = 0x04, PxFB = 0x08, PxFBU = 0x0C, PxIS = 0x10, PxIE = 0x14, PxCMD = 0x18,
        PxTFD = 0x20, PxSIG = 0x24, PxSSTS = 0x28, PxSCTL = 0x2C, PxSERR = 0x30, PxSACT = 0x34, PxCI = 0x38;

    // PxIS and PxIE
    public const uint DHRS = 1 << 0, PSS = 1 << 1, DSS = 1 << 2, SDBS = 1 << 3, OFS = 1 << 24, IFS = 1 << 27,
        HBFS = 1 << 29, TFES = 1 << 30;

    // PxCMD
    public const uint ST = 1 << 0, SUD = 1 << 1, POD = 1 << 2, FRE = 1 << 4, FR = 1 << 14, CR = 1 << 15,
        ATAPI = 1 << 24, DLAE = 1 << 25;
    public const int CCS = 8;
    public const uint CCSMask = 31 << CCS;

    public const uint DET = 15, Initialize = 1, Offline = 4;       // PxSCTL
    public const uint Present = 0x113;                             // PxSSTS: active, 1.5 Gbit/s, communication
    public const uint NoSignature = uint.MaxValue, NoStatus = 0x7F;

    public const int Ports = 6, FirstPort = 0x100, PortSize = 0x80, Slots = 32;

    // 64-bit addresses, queued commands, 1.5 Gbit/s, AHCI alone, 32 slots
    const uint Capabilities = 1u << 31 | 1 << 30 | 1 << 20 | 1 << 18 | (Slots - 1) << 8 | Ports - 1;
    const uint AllInterrupts = 0xFDC0_00FF;

    public static readonly Register[] HostRegisters =
    [
        new("CAP", CAP, Capabilities), new("GHC", GHC, AE, IE), new("IS", IS, 0, Clearable: (1 << Ports) - 1),
        new("PI", PI, (1 << Ports) - 1), new("VS", VS, 0x0001_0000),
    ];

    public static readonly Register[] PortRegisters =
    [
        new("PxCLB", PxCLB, 0, 0xFFFF_FC00), new("PxCLBU", PxCLBU, 0, uint.MaxValue),
        new("PxFB", PxFB, 0, 0xFFFF_FF00), new("PxFBU", PxFBU, 0, uint.MaxValue),
        new("PxIS", PxIS, 0, Clearable: AllInterrupts), new("PxIE", PxIE, 0, AllInterrupts),
        new("PxCMD", PxCMD, SUD | POD, ST | FRE | ATAPI | DLAE), new("PxTFD", PxTFD, NoStatus),
        new("PxSIG", PxSIG, NoSignature), new("PxSSTS", PxSSTS), new("PxSCTL", PxSCTL, 0, 0xFFF),
        new("PxSERR", PxSERR, 0, Clearable: 0x07FF_0F03), new("PxSACT", PxSACT, 0, Settable: uint.MaxValue),
        new("PxCI", PxCI, 0, Settable: uint.MaxValue),
    ];

    /// <summary>What a register holds when the guest has written it.</summary>
    public static uint Written(in Register register, uint old, uint value) =>
        (old & ~register.Writable | value & register.Writable | value & register.Settable)
            & ~(value & register.Clearable);

    /// <summary>Null where there is none.</summary>
    public static Register? Find(Register[] table, int offset)
    {
        foreach (Register register in table)
            if (register.Offset == offset) return register;
        return null;
    }
}
