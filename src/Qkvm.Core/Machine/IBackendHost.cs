using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>Kinds of models that monitors can add or ask about.</summary>
public enum ModelKind { Device, Chardev, Netdev, Tpm, Audio, Object, BlockDriver, Machine, Accelerator }

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

    /// <summary>Makes what a "dev" of -serial and -monitor means ("tcp::1234,server=on"), or finds it
    /// ("chardev:ID").</summary>
    /// <returns>Its id.</returns>
    string AddCharacter(string device, string id, string owner);

    void Add(NetdevConfig netdev);
    void Add(BlockdevConfig node);
    void Add(DriveConfig drive);
    void Add(ObjectConfig made);

    /// <summary>As <see cref="Add(BlockdevConfig)"/>, while the machine runs: whatever the disk does, nobody waits for
    /// it.</summary>
    ValueTask AddNodeAsync(BlockdevConfig node);

    /// <summary>Closes a node that nobody uses. Throws a ConfigurationException for others.</summary>
    ValueTask RemoveNodeAsync(string nodeName);

    /// <summary>Moves a node's end while nothing is in flight through it. Throws a BlockException.</summary>
    ValueTask ResizeAsync(BlockDriver node, long length);

    /// <summary>Makes what -drive would of these words, while the machine runs.</summary>
    /// <exception cref="ConfigurationException">Also for what would need a device.</exception>
    ValueTask AddDriveAsync(string words);

    /// <summary>Opens an image for a drive, to which the node belongs.</summary>
    /// <param name="format">Null: what the image looks like.</param>
    ValueTask<BlockDriver> OpenMediumAsync(string file, string? format, bool isReadOnly, string owner);

    /// <summary>Puts another chardev in the place of one, with the same frontend. What cannot be made leaves the old
    /// one.</summary>
    void ChangeChardev(ChardevConfig chardev);

    /// <summary>Nodes that other programs use.</summary>
    IBlockExports Exports => throw new CommandException("there is no NBD server here");

    /// <summary>Work on nodes beside the guest.</summary>
    IBlockJobs BlockJobs => throw new CommandException("there are no block jobs here");

    /// <summary>All nodes with names of the user's.</summary>
    IReadOnlyList<BlockDriver> Nodes { get; }

    /// <summary>Lets clients of a chardev speak with the machine, until it is disposed of.</summary>
    IDisposable OpenMonitor(MonitorConfig config) => throw new ConfigurationException($"{config.Owner}: there is no "
        + "machine to monitor");

    // What nobody uses goes; throws a CommandException for what does not exist or is in use.

    void RemoveChardev(string id);
    void RemoveNetdev(string id);
    void RemoveObject(string id);

    /// <summary>What can be made of a kind.</summary>
    IReadOnlyList<Model> ModelsOf(ModelKind kind);

    /// <summary>What -global can set of chips that machines bring: "PIIX4_PM.disable_s3".</summary>
    IEnumerable<string> ChipGlobals { get; }

    /// <summary>Descriptors that clients passed or that were inherited with a number.</summary>
    Descriptors Descriptors { get; }

    /// <summary>A line that users need, on stdout: which terminal or port something became.</summary>
    void Print(string line);

    /// <summary>A line about what is other than users may think, on stderr.</summary>
    void Warn(string line);
}
