using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Iommu;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Firmware;

/// <summary>Where a chipset has its power management, as the FADT and the MCFG say.</summary>
/// <param name="PmBase">The port of its PM1 event block, which the control block and the timer follow.</param>
/// <param name="Enable">What the SMI command port takes to turn ACPI on; <paramref name="Disable"/> to turn it
/// off.</param>
/// <param name="GpePort">Of general purpose event block 0; <paramref name="GpeLength"/> in bytes.</param>
/// <param name="ResetValue">What the reset control register takes.</param>
public sealed record AcpiChipset(uint PmBase, byte Enable, byte Disable, uint GpePort, byte GpeLength, byte ResetValue)
{
    /// <summary>Where firmware puts the power management, and tables expect it before it did.</summary>
    public const uint DefaultPmBase = 0x600;

    /// <summary>PCI Express's configuration space in memory, if any.</summary>
    public (ulong Base, ulong Size)? Ecam { get; init; }
}

/// <summary>Hardware-reduced ACPI: what the FADT says of a machine without such a chipset. ACPI 6.3, sections 4.8.3.6
/// "Reset Register" and 4.8.3.7 "Sleep Control and Status Registers".</summary>
/// <param name="SleepControl">The register's address in memory, as are <paramref name="SleepStatus"/> and
/// <paramref name="Reset"/>.</param>
/// <param name="ResetValue">What the reset register takes.</param>
/// <param name="HasRtc">There is a CMOS clock.</param>
public sealed record ReducedHardware(ulong SleepControl, ulong SleepStatus, ulong Reset, byte ResetValue, bool HasRtc);

/// <summary>What the ACPI tables describe.</summary>
public sealed record AcpiPlatform
{
    /// <summary>Local APIC ids of all possible CPUs.</summary>
    public required IReadOnlyList<uint> ApicIds { get; init; }
    public required Predicate<int> IsCpuPresent { get; init; }

    /// <summary>-acpitable's.</summary>
    public IReadOnlyList<byte[]> UserTables { get; init; } = [];

    /// <summary>Something in <see cref="Terms"/> describes them.</summary>
    public bool AreCpusDescribed { get; init; }

    /// <summary>Null of a machine with <see cref="Reduced"/> hardware.</summary>
    public AcpiChipset? Chipset { get; init; }
    public ReducedHardware? Reduced { get; init; }

    /// <summary>PCI Express's configuration space in memory, if any.</summary>
    public (ulong Base, ulong Size)? Ecam { get => field ?? Chipset?.Ecam; init; }

    public int IoApics { get; init; } = 1;

    /// <summary>ISA interrupts that are level triggered, active high: PCI's, and the SCI.</summary>
    public byte[] LevelIrqs { get; init; } = [5, 9, 10, 11];

    public bool Hpet { get; init; } = true;

    /// <summary>Beside soft off.</summary>
    internal SleepStates SleepStates { get; init; } = new(ToRam: false, ToDisk: false, 0);

    /// <summary>Its devices' descriptions become the name space.</summary>
    public required QBus Tree { get; init; }

    /// <summary>Where there is memory, and where some may come; null where tables do not tell.</summary>
    public PcMemory? Memory { get; init; }

    /// <summary>Which memory and which processors are near each other; told with <see cref="Memory"/>.</summary>
    public NumaConfig Numa { get; init; } = new();

    /// <summary>-machine nvdimm=on, and those that there are; null: off.</summary>
    internal (IReadOnlyList<Nvdimm> Present, NvdimmConfig Config)? Nvdimms { get; init; }

    /// <summary>Its TPM, if any.</summary>
    public ITpmDevice? Tpm { get; init; }

    /// <summary>It has an <see cref="IGenerationId"/>.</summary>
    public bool HasGenerationId { get; init; }

    /// <summary>Its first PCI root bus, if any.</summary>
    public PciBus? Root { get; init; }

    /// <summary>Its IOMMU, if any.</summary>
    public IntelIommu? Iommu { get; init; }

    /// <summary>What else stands in \_SB.</summary>
    public Aml[] Terms { get; init; } = [];
}
