using Qkvm.Core.Block.Images;
using Qkvm.Host.Sockets;

namespace Qkvm.Core.Block;

/// <param name="IsClosing">It is about to go.</param>
public sealed record BlockExportInfo(string Id, string NodeName, bool IsClosing = false);

/// <param name="Node">A node's or a drive's name.</param>
/// <param name="Name">As clients ask for it.</param>
/// <param name="IsWritethrough">What clients write is on stable storage when they are answered.</param>
/// <param name="ShowsDepth">Clients may ask which layer has what.</param>
public sealed record BlockExportOptions(string Id, string Node, string Name, bool IsWritable = false,
    bool IsWritethrough = false, string Description = "", bool ShowsDepth = false)
{
    /// <summary>Dirty bitmaps that clients may look at.</summary>
    public IReadOnlyList<BitmapName> Bitmaps { get; init; } = [];
}

/// <summary>Nodes that other programs use over NBD while the machine runs. Main loop, under the machine lock.</summary>
/// <remarks>Errors are <see cref="Machine.CommandException"/>s or ConfigurationExceptions with QMP's texts.</remarks>
public interface IBlockExports
{
    IReadOnlyList<BlockExportInfo> All { get; }

    bool IsServing { get; }

    /// <param name="credentials">The id of an object; null: without TLS.</param>
    /// <param name="maxConnections">0 for any number.</param>
    void StartServer(SocketAddress address, string? credentials, int maxConnections);

    /// <summary>Disconnects all clients; exports stay until they are removed.</summary>
    void StopServer();

    void Add(BlockExportOptions options);

    /// <summary>Completes when the export has gone and its node is free; clients do not find it any more at
    /// once.</summary>
    /// <param name="hard">Whatever clients it has; else only if there are none.</param>
    /// <returns>False: somebody else had begun to remove it.</returns>
    ValueTask<bool> RemoveAsync(string id, bool hard);
}
