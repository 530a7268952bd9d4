using Qkvm.Core.State;

namespace Qkvm.Core.Devices;

/// <summary>Anything with state. All members are called under the machine lock.</summary>
public interface IDevice
{
    /// <summary>The qdev id or chip name.</summary>
    string Name { get; }

    /// <summary>Power-on values; equal to a new device. vCPUs are stopped.</summary>
    void Reset();

    /// <summary>Of the section that <see cref="Exchange"/> writes; what a version added stands behind
    /// <see cref="StateStream.Since"/>.</summary>
    int StateVersion => 1;

    /// <summary>Names each mutable field once: saves or loads. Ends by validating what was loaded.</summary>
    void Exchange(StateStream state);

    /// <summary>Its part of Open Firmware paths, of one whose bus gives it none; empty for none.</summary>
    string PathName => "";

    /// <summary>What follows its path where the firmware boots from it: "/disk@0,0".</summary>
    string BootPathEnd => "";

    /// <summary>What it is beside a device, such as an <see cref="IBalloon"/>; null if it is no such thing.</summary>
    T? Facet<T>() where T : class => this as T;
}

/// <summary>A device through which the guest gives memory back.</summary>
public interface IBalloon
{
    /// <summary>Bytes that the guest has given away.</summary>
    ulong Given { get; }

    /// <summary>Asks the guest to give this many bytes away; whole pages of 4 KiB.</summary>
    void Ask(ulong bytes);
}
