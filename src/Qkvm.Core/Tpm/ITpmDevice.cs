using Qkvm.Core.Devices;

namespace Qkvm.Core.Tpm;

/// <summary>The guest's side of a TPM, as query-tpm and ACPI tell of it.</summary>
public interface ITpmDevice : IDevice
{
    /// <summary>The firmware file that the tables' event log begins as, and its bytes.</summary>
    const string LogFile = "etc/tpm/log";
    const int LogSize = 64 << 10;

    ITpm Tpm { get; }

    /// <summary>QEMU's name of its interface.</summary>
    string Model { get; }

    /// <summary>TCG ACPI Specification 1.2, table 7: the address of the control area, and how a command is
    /// started.</summary>
    ulong ControlArea { get; }
    uint StartMethod { get; }
}
