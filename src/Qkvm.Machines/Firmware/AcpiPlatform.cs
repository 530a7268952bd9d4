namespace Qkvm.Machines.Firmware;

/// <summary>What the ACPI tables describe.</summary>
public sealed record AcpiPlatform
{
    /// <summary>Local APIC ids of all possible CPUs, the present ones first.</summary>
    public required IReadOnlyList<uint> ApicIds { get; init; }
    public required int PresentCpus { get; init; }

    /// <summary>First address of PCI's window below 4 GiB, and of the one above (aligned to 1 GiB).</summary>
    public required uint PciHole { get; init; }
    public required ulong PciHole64 { get; init; }

    public bool Hpet { get; init; } = true;
    public IReadOnlyList<(ushort Port, int Irq)> Serials { get; init; } = [];
    public IReadOnlyList<(ushort Port, int Irq)> Parallels { get; init; } = [];

    /// <summary>pvpanic's port, or null.</summary>
    public ushort? PanicPort { get; init; }
}
