using Qkvm.Core.State;

namespace Qkvm.Core.Devices;

/// <summary>Anything with state. All members are called under the machine lock.</summary>
public interface IDevice
{
    /// <summary>The qdev id or chip name; also the name of its section in saved states.</summary>
    string Name { get; }

    /// <summary>Power-on values; equal to a new device. vCPUs are stopped.</summary>
    void Reset();

    /// <summary>Names each mutable field once: saves or loads. Ends by validating what was loaded.</summary>
    void Exchange(StateStream state);
}
