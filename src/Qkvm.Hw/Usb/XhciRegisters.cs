namespace Qkvm.Hw.Usb;

/// <summary>Offsets, bits and numbers of xHCI 1.2, chapters 5 and 6.</summary>
static class XhciRegisters
{
    // Layout of the BAR
    public const uint Operational = 0x40, PortRegisters = 0x400, Runtime = 0x1000, Doorbells = 0x2000,
        MsiXTable = 0x3000, MsiXPending = 0x3800, RegionSize = 0x4000,
        FirstExtended = 0x20, InterfaceVersion = 0x0100, UsbName = 0x20425355;

    // Operational registers, section 5.4
    public const uint UsbCommand = 0x00, UsbStatusRegister = 0x04, PageSize = 0x08, Notifications = 0x14,
        CommandRing = 0x18, ContextArray = 0x30, Configure = 0x38;
    public const uint Run = 1, HostReset = 2, InterruptEnable = 4, CommandWritable = 0xC0D;        // USBCMD
    public const uint Halted = 1, HostError = 4, EventInterrupt = 8, PortChange = 0x10, SaveError = 0x400,
        ControllerError = 0x1000;                                  // USBSTS
    public const uint CommandRingRunning = 8;                      // CRCR

    // PORTSC, section 5.4.8
    public const uint Connected = 1, PortEnabled = 2, PortReset = 0x10, LinkState = 0xF << 5, PortPower = 0x200,
        SpeedMask = 0xF << 10, LinkWrite = 1 << 16, ConnectChange = 1 << 17, EnableChange = 1 << 18,
        WarmResetChange = 1 << 19, ResetChange = 1 << 21, LinkChange = 1 << 22, Changes = 0x7F << 17,
        WakeBits = 7 << 25, WarmReset = 1u << 31;
    public const uint U0 = 0, U3 = 3 << 5, RxDetect = 5 << 5, Polling = 7 << 5, Resume = 15 << 5;  // of LinkState

    // TRB types, table 6-91
    public const uint Normal = 1, SetupStage = 2, DataStage = 3, StatusStage = 4, Isochronous = 5, Link = 6,
        EventData = 7, NoOp = 8, EnableSlot = 9, DisableSlot = 10, AddressDevice = 11, ConfigureEndpoint = 12,
        EvaluateContext = 13, ResetEndpoint = 14, StopEndpoint = 15, SetDequeue = 16, ResetDeviceCommand = 17,
        NoOpCommand = 23, TransferEvent = 32, CommandCompletion = 33, PortStatusChange = 34, HostController = 37;

    // Flags of a TRB's control word
    public const uint Cycle = 1, ToggleCycle = 2, InterruptOnShort = 4, Chain = 0x10, InterruptOnCompletion = 0x20,
        ImmediateData = 0x40, DirectionIn = 1 << 16, BlockSetAddress = 1 << 9, Deconfigure = 1 << 9,
        IsEventData = 4;

    // Completion codes, table 6-90
    public const byte Success = 1, BabbleDetected = 3, TransactionError = 4, TrbError = 5, StallError = 6,
        NoSlots = 9, SlotNotEnabled = 11, EndpointNotEnabled = 12, ShortPacket = 13, ParameterError = 17,
        ContextStateError = 19, EventRingFull = 21, CommandRingStopped = 24, Stopped = 26;

    // States of endpoints and slots, tables 6-8 and 6-4
    public const byte EndpointDisabled = 0, EndpointRunning = 1, EndpointHalted = 2, EndpointStopped = 3,
        EndpointError = 4;
    public const byte SlotEnabled = 0, SlotDefault = 1, SlotAddressed = 2, SlotConfigured = 3;

    public static uint CompletionCode(byte code) => (uint)code << 24;
}
