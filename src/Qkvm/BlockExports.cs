using System.Net.Sockets;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Nbd;

namespace Qkvm;

/// <summary>The machine's NBD server and what it exports.</summary>
sealed class BlockExports(EventLoop loop, BlockFactory blocks, MachineBackends backends) : IBlockExports
{
    readonly List<(BlockExportInfo Info, NbdExport Export)> _all = [];
    NbdServer? _server;

    public IReadOnlyList<BlockExportInfo> All => [.. _all.Select(one => one.Info)];

    public bool IsServing => _server != null;

    public void StartServer(SocketAddress address, string? credentials, int maxConnections)
    {
        if (_server != null) throw new CommandException("NBD server already running");
        TlsCredentials? found = credentials == null ? null : blocks.CredentialsOf(credentials, isServer: true);
        try { _server = new NbdServer(address, loop, new NbdServerOptions(maxConnections, found)); }
        catch (Exception e) when (e is HostException or SocketException)
        {
            throw new CommandException(e is HostException host
                ? $"Failed to bind socket to {address}: {Libc.Message(host.Errno)}"
                : $"address resolution failed for {address}: {e.Message}");
        }
        _server.Start();
    }

    public void StopServer()
    {
        Running.Dispose();
        _server = null;
    }

    public void Add(BlockExportOptions options)
    {
        NbdServer server = Running;
        if (_all.Exists(one => one.Info.Id == options.Id))
            throw new CommandException($"Block export id '{options.Id}' is already in use");
        BlockDriver node = blocks.Find(options.Node)
            ?? (backends.Drives.TryGetValue(options.Node, out BlockBackend? drive) ? drive.Root : null)
            ?? throw new CommandException($"Cannot find device='' nor node-name='{options.Node}'");
        if (options.IsWritable && node.IsReadOnly)
            throw new CommandException("Cannot export read-only node as writable");
        if (server.Find(options.Name) != null)
            throw new CommandException($"NBD server already has export named '{options.Name}'");
        IBitmap[] bitmaps = [.. options.Bitmaps.Select(name => (node as IBitmaps)?.Bitmaps
            .FirstOrDefault(bitmap => bitmap.Name == name)
            ?? throw new CommandException($"Bitmap '{name}' is not found"))];
        var export = new NbdExport(options.Name, node, options.IsWritable)
        {
            Description = options.Description,
            ShowsDepth = options.ShowsDepth,
            IsWritethrough = options.IsWritethrough,
            Bitmaps = bitmaps,
        };
        server.Add(export);
        _all.Insert(0, (new BlockExportInfo(options.Id, node.NodeName), export));
    }

    public async ValueTask RemoveAsync(string id, bool hard)
    {
        int index = _all.FindIndex(one => one.Info.Id == id);
        if (index < 0) throw new CommandException($"Export '{id}' is not found");
        (BlockExportInfo info, NbdExport export) = _all[index];
        if (info.IsClosing) return;
        if (!hard && export.Clients > 0) throw new CommandException($"export '{id}' still in use");
        _all[index] = (info with { IsClosing = true }, export);
        _server?.Remove(export);
        await Task.Run(() => export.CloseAsync().AsTask()).ConfigureAwait(false);
        var gone = new TaskCompletionSource();
        loop.Post(() =>
        {
            _all.RemoveAll(one => one.Export == export);
            gone.SetResult();
        });
        await gone.Task.ConfigureAwait(false);
    }

    /// <summary>At the end of the machine. Without the lock, and the loop runs no more.</summary>
    public void Close()
    {
        _server?.Dispose();
        foreach ((_, NbdExport export) in _all) export.CloseAsync().AsTask().GetAwaiter().GetResult();
    }

    NbdServer Running => _server ?? throw new CommandException("NBD server not running");
}
