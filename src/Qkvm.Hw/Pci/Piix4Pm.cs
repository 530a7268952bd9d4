using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Pci;

/// <summary>Power management function: ACPI's fixed registers, the general purpose events, the SMI command port and the
/// SMBus host. Spec: Intel 82371AB (PIIX4), order 290562, chapter 7 and section 9.4.</summary>
/// <remarks>Deviations: power management blocks beyond PM1 and the timer are absent; the SMI command port itself turns
/// ACPI on (F1h) and off (F0h), as firmware's SMI handler would; all other values there are SMIs, which are the only
/// ones, and GLBCTL need not enable them; GPE0 is at AFE0h as QEMU places it.</remarks>
public sealed class Piix4Pm : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x7113, 0x068000, Revision: 3);

    public const byte AcpiEnable = 0xF1, AcpiDisable = 0xF0;
    public const ulong GpePort = 0xAFE0;
    public const int GpeLength = 4;

    // Configuration registers
    const int PmBase = 0x40, DeviceActivityB = 0x58, PmRegMisc = 0x80, SmbBase = 0x90, SmbHostConfig = 0xD2;
    const byte ApmcEnable = 2;                                     // DEVACTB bit 25

    readonly MemoryRegion _pmRegion, _smbRegion;
    readonly ApmPorts _apm;

    /// <param name="sci">ISA IRQ 9.</param>
    /// <param name="smi">Interrupts for system management; null: there is no such mode, and firmware takes it as set
    /// up already.</param>
    public Piix4Pm(IVirtualClock clock, AddressSpace ports, IrqLine sci, Action<SleepState> sleep, Action? smi = null)
        : base(Chip, "PIIX4_PM")
    {
        Config.Define16(PciConfig.Status, 0x0280);
        Config.Define32(PmBase, 1, 0xFFC0);
        Config.Define(DeviceActivityB + 3, smi == null ? ApmcEnable : (byte)0, 0xFF);
        Config.Define(PmRegMisc, 0, 1);
        Config.Define32(SmbBase, 0xB101, 0xFFF0);
        Config.Define(SmbHostConfig, 0x09, 0x0F);
        for (int offset = 0x44; offset < DeviceActivityB + 3; offset++) Config.Define(offset, 0, 0xFF);
        for (int offset = 0x5C; offset < PmRegMisc; offset++)
            Config.Define(offset, offset == 0x63 ? (byte)0x60 : (byte)0, 0xFF);
        Gpe = new GpeBlock(GpeLength, () => Acpi!.Update());
        Acpi = new AcpiRegisters(clock, sci, sleep, () => Gpe.IsPending);
        Smbus = new PiixSmbus();
        _apm = new ApmPorts(AcpiEnable, AcpiDisable, Acpi.SetEnabled, () =>
        {
            if ((Config[DeviceActivityB + 3] & ApmcEnable) != 0) smi?.Invoke();
        });
        _pmRegion = MemoryRegion.Io("acpi-pm", 64, Acpi, AccessSizes.UpToDword);
        _smbRegion = MemoryRegion.Io("pm-smbus", 16, Smbus, AccessSizes.Bytes);
        ports.Map(ApmPorts.Address, MemoryRegion.Io("apm-io", ApmPorts.Size, _apm, AccessSizes.Bytes));
        ports.Map(GpePort, MemoryRegion.Io("acpi-gpe0", GpeLength, Gpe, AccessSizes.Bytes));
    }

    public AcpiRegisters Acpi { get; }

    /// <summary>The general purpose events, and the parts of the chip that tell of things by them.</summary>
    public GpeBlock Gpe { get; }
    public List<IDevice> GpeParts { get; } = [];

    /// <summary>The port of the power management block, where firmware has placed one; 0 else.</summary>
    public uint Base => (Config[PmRegMisc] & 1) != 0 ? Config.Get16(PmBase) & 0xFFC0u : 0;
    public PiixSmbus Smbus { get; }

    protected override void ResetDevice()
    {
        Acpi.Reset();
        Smbus.Reset();
        _apm.Reset();
        Gpe.Reset();
        foreach (IDevice part in GpeParts) part.Reset();
        Apply();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        Gpe.Exchange(state.Group("gpe"));
        foreach (IDevice part in GpeParts) part.Exchange(state.Group(part.Name));
        Acpi.Exchange(state.Group("acpi"));
        Smbus.Exchange(state.Group("smbus"));
        _apm.Exchange(state.Group("apm"));
        if (state.IsLoading) Apply();
    }

    protected override void OnConfigWritten(int offset, int size) => Apply();

    /// <summary>Section 7.1.16 "PMBA" and 7.1.38 "PMREGMISC"; 7.2 for the SMBus.</summary>
    void Apply()
    {
        if (Bus == null) return;
        Bus.IoSpace.Place(_pmRegion, Base);
        Bus.IoSpace.Place(_smbRegion, (Config[SmbHostConfig] & 1) != 0 ? Config.Get16(SmbBase) & 0xFFF0u : 0);
    }
}
