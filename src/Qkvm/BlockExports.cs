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
    sealed record Entry(BlockExportInfo Info, NbdExport Export)
    {
        public Task? Closing { get; set; }
    }

    readonly List<Entry> _all = [];
    NbdServer? _server;

    public IReadOnlyList<BlockExportInfo> All =>
        [.. _all.Select(one => one.Info with { IsClosing = one.Closing != null })];

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
        BlockDriver node = Named(options.Node)
            ?? throw new CommandException($"Cannot find device='' nor node-name='{options.Node}'");
        if (options.IsWritable && node.IsReadOnly)
            throw new CommandException("Cannot export read-only node as writable");
        if (server.Find(options.Name) != null)
            throw new CommandException($"NBD server already has export named '{options.Name}'");
        IReadOnlyList<IBitmap> bitmaps = NbdBitmaps.Find(node, options.Bitmaps, options.IsWritable, Named);
        var export = new NbdExport(options.Name, node, options.IsWritable)
        {
            Description = options.Description,
            ShowsDepth = options.ShowsDepth,
            IsWritethrough = options.IsWritethrough,
            Bitmaps = bitmaps,
        };
        server.Add(export);
        _all.Insert(0, new Entry(new BlockExportInfo(options.Id, node.NodeName), export));
    }

    BlockDriver? Named(string name) => blocks.Find(name)
        ?? (backends.Drives.TryGetValue(name, out BlockBackend? drive) ? drive.Root : null);

    public async ValueTask<bool> RemoveAsync(string id, bool hard)
    {
        Entry entry = _all.Find(one => one.Info.Id == id) ?? throw new CommandException($"Export '{id}' is not found");
        bool isFirst = entry.Closing == null;
        if (isFirst && !hard && entry.Export.Clients > 0) throw new CommandException($"export '{id}' still in use");
        await (entry.Closing ??= CloseAsync(entry)).ConfigureAwait(false);
        return isFirst;
    }

    async Task CloseAsync(Entry entry)
    {
        _server?.Remove(entry.Export);
        await Task.Run(() => entry.Export.CloseAsync().AsTask()).ConfigureAwait(false);
        var gone = new TaskCompletionSource();
        loop.Post(() =>
        {
            _all.Remove(entry);
            gone.SetResult();
        });
        await gone.Task.ConfigureAwait(false);
    }

    /// <summary>At the end of the machine. Without the lock, and the loop runs no more.</summary>
    public void Close()
    {
        _server?.Dispose();
        foreach (Entry entry in _all) entry.Export.CloseAsync().AsTask().GetAwaiter().GetResult();
    }

    NbdServer Running => _server ?? throw new CommandException("NBD server not running");
}
