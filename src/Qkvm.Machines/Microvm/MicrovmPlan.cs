using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Microvm;

/// <summary>What a microvm has, and where. The places are QEMU's.</summary>
public sealed record MicrovmPlan
{
    public const ulong VirtioAddress = 0xFEB0_0000, PowerAddress = 0xFEA0_0000;
    public const int PowerGsi = 9;

    /// <summary>RAM goes up to 3 GiB, and on at 4 GiB.</summary>
    public static readonly PcMemoryPlan Memory = new(0xC000_0000, 0xC000_0000, 2UL << 30)
        { HasHostBridge = false, RamName = "microvm.ram" };

    const int OnSecondIoApic = 24, OfFirstIoApic = 8, FirstWithAcpi = 16, FirstWithoutAcpi = 5;

    public required int IoApics { get; init; }
    public required bool HasPic { get; init; }
    public required bool HasPit { get; init; }
    public required bool HasRtc { get; init; }
    public required bool HasPcie { get; init; }
    public required bool HasSerial { get; init; }
    public required bool HasOptionRoms { get; init; }

    /// <summary>The kernel's command line tells of the virtio devices.</summary>
    public required bool NamesDevices { get; init; }

    /// <summary>Transports have the interface from before Virtio 1.0.</summary>
    public required bool IsLegacy { get; init; }

    /// <summary>Transports: all pins of the second I/O APIC, or some of the first.</summary>
    public int Transports => IoApics > 1 ? OnSecondIoApic : OfFirstIoApic;

    /// <summary>The first transport's interrupt.</summary>
    public int VirtioGsi(bool acpi) => IoApics > 1 ? OnSecondIoApic : acpi ? FirstWithAcpi : FirstWithoutAcpi;
}
