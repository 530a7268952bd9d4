using Qkvm.Core.Devices;

namespace Qkvm.Core.Acpi;

/// <summary>A device that gives the guest a number of its own: another one tells it that it is a copy. Spec:
/// Microsoft's "Virtual Machine Generation ID".</summary>
public interface IGenerationId : IDevice
{
    /// <summary>The firmware file that has the number, a page, and where in it.</summary>
    const string File = "etc/vmgenid_guid";
    const int FileSize = 4096, Offset = 40;

    Guid Generation { get; }
}
