using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>LPC bridge of the ICH9: routes PIRQ A to H to the ISA interrupts, says which PIRQ a chip's own functions
/// use, and places the power management block. Spec: Intel I/O Controller Hub 9, order 316972, section 13.1, and
/// section 10.1 "Chipset Configuration Registers".</summary>
/// <remarks>Deviations: general purpose I/O, the LPC decode ranges and the firmware hub's registers only keep what is
/// written. PIRQ A to H always reach the I/O APIC's inputs 16 to 23; they reach the ISA interrupts, where
/// routed.</remarks>
public sealed class Ich9Lpc : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x2918, 0x060100, Revision: 2, HasInterruptPin: false);

    public const int Inputs = 8, FirstGsi = 16;

    // Configuration registers: (offset, reset value, writable), section 13.1
    const int PmBase = 0x40, AcpiControl = 0x44, PirqA = 0x60, PirqE = 0x68, PmConfiguration1 = 0xA0, RootBlock = 0xF0;
    static readonly (int Offset, uint Reset, uint Writable)[] Kept =
    [
        (0x48, 1, 0xFF80), (0x4C, 0, 0x10), (0x64, 0x10, 0xD3), (0x80, 0, 0x3F0F_1377), (0x84, 0, 0x00FC_FFFD),
        (0x88, 0, 0x00FC_FFFD), (0x8C, 0, 0x00FC_FFFD), (0x90, 0, 0x00FC_FFFD), (0xA4, 0, 0xFF), (0xD0, 0x0011_2233,
        uint.MaxValue), (0xD4, 0x4567, 0xFFFF), (0xD8, 0xFFCF, 0xFF4F), (0xDC, 0, 0x0F),
    ];

    /// <summary>What SeaBIOS forgets to set when it wakes a guest, which would be lost for the next sleep.</summary>
    public static readonly (int Offset, int Count)[] KeptInSleep =
        [(PmBase, 8), (PirqA, 4), (PirqE, 4), (RootBlock, 4)];

    const byte AcpiEnable = 0x80, SciSelect = 7;
    const ushort PmConfiguration1Writable = 0x029F;
    const byte SmiLock = 0x10;                                     // GEN_PMCON_1
    static readonly int[] SciRoutes = [9, 10, 11, -1, 20, 21, -1, -1];

    // The root complex register block, section 10.1: per device from 25 to 31 the PIRQ of each pin, a nibble each
    const ulong RootBlockSize = 0x4000;
    const int Device31Route = 0x3140, RouteStep = 2, FirstOwnDevice = 25, LastOwnDevice = 31;
    const ushort StraightRoute = 0x3210;
    const int GeneralControl = 0x3410;                             // GCS
    const byte NoReboot = 0x20;

    readonly PirqRouter _router;
    readonly IrqLine[] _pins, _sci;
    readonly byte[] _root = new byte[RootBlockSize];
    readonly MemoryRegion _rootRegion;
    readonly Ich9Pm _pm;
    readonly bool _forbidsReboot;
    bool _sciLevel;

    /// <param name="irq">A new wire to a global system interrupt.</param>
    /// <param name="pm">Its power management block, whose SCI it leads on.</param>
    /// <param name="reset">Asks for a reset of the machine.</param>
    /// <param name="forbidsReboot">The strap for No Reboot: the watchdog resets nothing.</param>
    /// <param name="smi">What is offered to firmware about SMIs; nothing by default.</param>
    public Ich9Lpc(Func<int, IrqLine> irq, Ich9Pm pm, Action reset, bool forbidsReboot, SmiFeatures? smi = null)
        : base(Chip, "ICH9-LPC")
    {
        Smi = smi ?? new SmiFeatures(0);
        (_pm, _forbidsReboot) = (pm, forbidsReboot);
        ResetControl = new ResetControl(0x0A, reset);
        IsMultifunction = true;
        _pins = [.. Enumerable.Range(FirstGsi, Inputs).Select(irq)];
        _sci = [.. SciRoutes.Select(gsi => gsi < 0 ? IrqLine.Unconnected("sci") : irq(gsi))];
        Config.Define32(PmBase, 1, 0xFF80);
        Config.Define(AcpiControl, 0, AcpiEnable | SciSelect);
        _router = new PirqRouter(Config, [.. Enumerable.Range(PirqA, 4), .. Enumerable.Range(PirqE, 4)],
            [.. Enumerable.Range(0, 16).Select(irq)]);
        foreach (var (offset, value, writable) in Kept) Config.Define32(offset, value, writable);
        Config.Define16(PmConfiguration1, 0, PmConfiguration1Writable);
        Config.Define32(RootBlock, 0, 0xFFFF_C001);
        _rootRegion = MemoryRegion.Io("lpc-rcrb-mmio", RootBlockSize, new RootBank(this), AccessSizes.UpToDword);
        pm.Sci = new IrqLine("sci", SetSci);
        ResetRoot();
    }

    /// <summary>What firmware was given of what SMIs can be.</summary>
    public SmiFeatures Smi { get; }

    /// <summary>Port CF9h.</summary>
    public ResetControl ResetControl { get; }

    /// <summary>The port of the power management block, where firmware has placed one; 0 else.</summary>
    public uint PowerManagementBase => (Config[AcpiControl] & AcpiEnable) != 0 ? Config.Get16(PmBase) & 0xFF80u : 0;

    /// <summary>The watchdog may not reset the machine.</summary>
    public bool IsRebootForbidden => (_root[GeneralControl] & NoReboot) != 0;

    /// <summary>PIRQ of a pin: slots up to 24 are wired to PIRQ E to H, rotated by the slot; the chip's own functions
    /// as it is configured.</summary>
    public int RouteSlot(int slot, int pin)
    {
        if (slot < FirstOwnDevice) return (slot + pin & 3) + 4;
        int at = Device31Route + (LastOwnDevice - slot) * RouteStep;
        return (_root[at] | _root[at + 1] << 8) >> pin * 4 & 7;
    }

    /// <summary>PIRQ A to H; active means asserted.</summary>
    public void SetInput(int input, bool active)
    {
        _pins[input].Set(active);
        _router[input] = active;
    }

    /// <summary>The ISA interrupt of an input, or -1.</summary>
    public int RouteOf(int input) => _router.RouteOf(input);

    protected override void ResetDevice()
    {
        ResetControl.Reset();
        _pm.Reset();
        Smi.Reset();
        ResetRoot();
        Apply();
        _router.Drive();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        ResetControl.Exchange(state);
        _pm.Exchange(state.Group("pm"));
        state.Block("root-complex", _root);
        _router.Exchange(state);
        state.Field("sci", ref _sciLevel);
        Smi.Exchange(state.Group("smi"));
        if (!state.IsLoading) return;
        for (int i = 0; i < Inputs; i++) _pins[i].Restore(_router[i]);
        for (int i = 0; i < _sci.Length; i++) _sci[i].Restore(_sciLevel && i == SciRoute);
        Apply();
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if (offset < PciConfig.CapabilityStart) return;
        Apply();
        _router.Drive();
    }

    int SciRoute => Config[AcpiControl] & SciSelect;

    void SetSci(bool level)
    {
        _sciLevel = level;
        DriveSci();
    }

    void DriveSci()
    {
        for (int i = 0; i < _sci.Length; i++)
            if (i != SciRoute) _sci[i].Set(false);
        _sci[SciRoute].Set(_sciLevel);
    }

    void Apply()
    {
        _pm.IsSmiLocked = (Config[PmConfiguration1] & SmiLock) != 0;
        Config.SetWritable(PmConfiguration1, (byte)(PmConfiguration1Writable & (_pm.IsSmiLocked ? ~SmiLock : ~0)));
        if (Bus == null) return;
        Bus.IoSpace.Place(_pm.Region, PowerManagementBase);
        Bus.MemorySpace.Place(_rootRegion, (Config[RootBlock] & 1) != 0 ? Config.Get32(RootBlock) & 0xFFFF_C000 : 0);
        DriveSci();
    }

    void ResetRoot()
    {
        Array.Clear(_root);
        for (int device = FirstOwnDevice; device <= LastOwnDevice; device++)
        {
            int at = Device31Route + (LastOwnDevice - device) * RouteStep;
            (_root[at], _root[at + 1]) = (StraightRoute & 0xFF, StraightRoute >> 8);
        }
        Strap();
    }

    /// <summary>What a pin says stays.</summary>
    void Strap()
    {
        if (_forbidsReboot) _root[GeneralControl] |= NoReboot;
    }

    sealed class RootBank(Ich9Lpc lpc) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            ulong value = 0;
            for (int i = 0; i < size; i++) value |= (ulong)lpc._root[(int)offset + i] << i * 8;
            return value;
        }

        public void Write(ulong offset, int size, ulong value)
        {
            for (int i = 0; i < size; i++) lpc._root[(int)offset + i] = (byte)(value >> i * 8);
            lpc.Strap();
        }
    }
}
