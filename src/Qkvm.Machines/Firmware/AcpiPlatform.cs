using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;

namespace Qkvm.Machines.Firmware;

/// <summary>What the ACPI tables describe.</summary>
public sealed record AcpiPlatform
{
    /// <summary>Local APIC ids of all possible CPUs, the present ones first.</summary>
    public required IReadOnlyList<uint> ApicIds { get; init; }
    public required int PresentCpus { get; init; }

    public bool Hpet { get; init; } = true;

    /// <summary>Its devices' descriptions become the name space.</summary>
    public required QBus Tree { get; init; }

    /// <summary>What else stands in \_SB.</summary>
    public Aml[] Terms { get; init; } = [];
}
