using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Pci;

/// <summary>Power management I/O of the ICH9: ACPI's fixed registers, general purpose events, SMI control and the
/// watchdog. Spec: Intel I/O Controller Hub 9, order 316972, section 13.8.3 "Power Management I/O Registers".</summary>
/// <remarks>Deviations: the SMI command port itself turns ACPI on (2) and off (3), as firmware's SMI handler would; all
/// other values there are SMIs, which are the only ones; SMI_STS stays clear and EOS means nothing: an SMI is an
/// edge.</remarks>
public sealed class Ich9Pm : IRegisterBank
{
    public const byte AcpiEnable = 2, AcpiDisable = 3;
    public const ulong GpeOffset = 0x20;
    public const int GpeLength = 16;

    // Offsets, section 13.8.3
    const ulong SmiEnable = 0x30, SmiStatus = 0x34, Tco = 0x60, RegionSize = 0x80;
    const uint SmiEnableBits = 0x0002_68FF;
    const uint ApmcEnable = 0x20, GlobalEnable = 1;

    readonly ApmPorts _apm;
    readonly Ich9Tco _tco;
    readonly Action? _smi;
    uint _smiEnable;

    /// <param name="ports">Where the SMI command port is.</param>
    /// <param name="sleep">The guest goes to sleep, or off.</param>
    /// <param name="smi">Interrupts for system management; null: there is no such mode.</param>
    public Ich9Pm(IVirtualClock clock, AddressSpace ports, Action<SleepState> sleep, Ich9Tco tco, Action? smi = null)
    {
        (_tco, _smi) = (tco, smi);
        Gpe = new GpeBlock(GpeLength, () => Acpi!.Update());
        Acpi = new AcpiRegisters(clock, new IrqLine("sci", level => Sci.Set(level)), sleep, () => Gpe.IsPending);
        _apm = new ApmPorts(AcpiEnable, AcpiDisable, Acpi.SetEnabled, Command);
        Region = MemoryRegion.Io("ich9-pm", RegionSize, this, AccessSizes.UpToDword);
        ports.Map(ApmPorts.Address, MemoryRegion.Io("apm-io", ApmPorts.Size, _apm, AccessSizes.Bytes));
    }

    public AcpiRegisters Acpi { get; }

    /// <summary>The general purpose events, and the parts of the chip that tell of things by them.</summary>
    public GpeBlock Gpe { get; }
    public List<IDevice> GpeParts { get; } = [];

    /// <summary>The block, which the LPC bridge places.</summary>
    public MemoryRegion Region { get; }

    /// <summary>The system control interrupt, which the LPC bridge routes.</summary>
    public IrqLine Sci { get; set; } = IrqLine.Unconnected("sci");

    /// <summary>SMI_LOCK of the LPC bridge: GBL_SMI_EN stays as it is.</summary>
    public bool IsSmiLocked { get; set; }                          // not migrated: the bridge says it again

    public void Reset()
    {
        _smiEnable = _smi == null ? ApmcEnable : 0;                // firmware takes SMM as set up already, or does it
        Acpi.Reset();
        Gpe.Reset();
        foreach (IDevice part in GpeParts) part.Reset();
        _apm.Reset();
        _tco.Reset();
    }

    public ulong Read(ulong offset, int size) => offset switch
    {
        < GpeOffset => Acpi.Read(offset, size),
        < GpeOffset + GpeLength => Gpe.Read(offset - GpeOffset, size),
        >= SmiEnable and < SmiEnable + 4 => _smiEnable >> (int)(offset - SmiEnable) * 8,
        >= Tco => _tco.Read(offset - Tco, size),
        _ => 0,                                                    // SMI_STS: nothing has asked
    };

    public void Write(ulong offset, int size, ulong value)
    {
        switch (offset)
        {
            case < GpeOffset: Acpi.Write(offset, size, value); break;
            case < GpeOffset + GpeLength: Gpe.Write(offset - GpeOffset, size, value); break;
            case >= SmiEnable and < SmiEnable + 4:
                int shift = (int)(offset - SmiEnable) * 8;
                uint mask = (uint)((1UL << size * 8) - 1) << shift;
                if (IsSmiLocked) mask &= ~GlobalEnable;
                _smiEnable = _smiEnable & ~mask | (uint)value << shift & mask & SmiEnableBits;
                break;
            case >= Tco: _tco.Write(offset - Tco, size, value); break;
        }
    }

    void Command()
    {
        const uint both = ApmcEnable | GlobalEnable;
        if ((_smiEnable & both) == both) _smi?.Invoke();
    }

    public void Exchange(StateStream state)
    {
        state.Field("smi-enable", ref _smiEnable);
        Gpe.Exchange(state.Group("gpe"));
        foreach (IDevice part in GpeParts) part.Exchange(state.Group(part.Name));
        Acpi.Exchange(state.Group("acpi"));
        _apm.Exchange(state.Group("apm"));
        _tco.Exchange(state.Group("tco"));
    }
}
