using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>Where backends live: makes them when the machine starts and when a monitor asks, and knows them by their
/// ids.</summary>
/// <remarks>All under the machine lock. What cannot be made throws a ConfigurationException and leaves nothing
/// behind.</remarks>
public interface IBackendHost
{
    EventLoop Loop { get; }

    /// <summary>What has been made, by id.</summary>
    MachineBackends Backends { get; }

    void Add(ChardevConfig chardev);
    void Add(NetdevConfig netdev);
    void Add(BlockdevConfig node);
    void Add(DriveConfig drive);
    void Add(ObjectConfig made);

    /// <summary>A line that users need, on stdout: which terminal or port something became.</summary>
    void Print(string line);

    /// <summary>A line about what is other than users may think, on stderr.</summary>
    void Warn(string line);
}
