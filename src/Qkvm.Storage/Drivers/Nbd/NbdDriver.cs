using System.Globalization;
using System.Runtime.CompilerServices;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Drivers.Nbd;

/// <summary>Protocol <c>nbd</c>: an export of a network block device server. Spec: NBD's doc/proto.md.</summary>
/// <remarks>Deviations: servers of the old style, before 2016, are refused.</remarks>
public sealed class NbdDriver : BlockNode
{
    public static readonly BlockDriverModel Model = new("nbd",
        [
            Property.Tree("server", "type=inet,host=NAME,port=NUMBER or type=unix,path=PATH"),
            Property.Text("host", help: "instead of server="), Property.Text("port", help: "beside host="),
            Property.Text("path", help: "of a UNIX socket, instead of server="),
            Property.Text("export", "", "name of the export"),
            Property.Text("tls-creds", help: "id of a tls-creds-x509 object with endpoint=client"),
            Property.Text("tls-hostname", help: "the server's name in its certificate"),
            Property.Text("x-dirty-bitmap", help: "block status shows this context instead of base:allocation"),
            Property.Number("reconnect-delay", 0, max: uint.MaxValue, help: "seconds that requests wait for another "
                + "connection where one is lost"),
            Property.Number("open-timeout", 0, max: uint.MaxValue, help: "seconds to try for the first connection"),
        ],
        Create)
    {
        IsProtocol = true,
        Description = "an export of an NBD server",
        Prefixes = NbdFileName.Prefixes,
        ParseFileName = NbdFileName.Parse,
    };

    const long LargestRange = 1 << 30;                             // of what has no data

    readonly NbdLink _link;
    readonly NbdExportInfo _info;
    readonly long _largest;
    readonly int _alignment;
    readonly RangeLock _writes = new();

    NbdDriver(NbdLink link, NbdExportInfo info, string name, NodeOptions options) : base(options)
    {
        (_link, _info, FileName) = (link, info, name);
        _largest = Math.Min(info.BlockSizes?.Maximum ?? NbdProtocol.MaxData, NbdProtocol.MaxData);
        _alignment = (int)(info.BlockSizes?.Minimum ?? 1);
        _largest = Math.Max(_alignment, _largest / _alignment * _alignment);
    }

    static NbdDriver Create(Properties properties, NodeParts parts)
    {
        string? path = properties.Text("path"), host = properties.Text("host"), port = properties.Text("port");
        if (properties.Tree("server") is { } server)
        {
            if (path != null || host != null || port != null)
                throw properties.Error("Cannot use 'server' and path/host/port at the same time");
            (path, host, port) = Server(server);
        }
        if (path == null && host == null) throw properties.Error("NBD server address missing");
        if (path != null && host != null)
            throw properties.Error("path and host may not be used at the same time");
        string export = properties.Text("export")!;
        if (export.Length > NbdProtocol.MaxString) throw properties.Error("export name too long to send to server");
        port ??= NbdProtocol.DefaultPort.ToString(CultureInfo.InvariantCulture);
        TlsCredentials? credentials = properties.Text("tls-creds") is { } id ? parts.Credentials(id, isServer: false)
            : null;
        string? name = properties.Text("tls-hostname") ?? host;
        if (name == null && credentials is { VerifiesPeer: true })
            throw properties.Error("No hostname for certificate validation; give tls-hostname=");
        var target = new NbdTarget(path != null ? new UnixAddress(path) : new InternetAddress(host!, Port(port)),
            export, properties.Text("x-dirty-bitmap") ?? NbdProtocol.Allocation, credentials,
            name);
        var link = new NbdLink(target, TimeSpan.FromSeconds(properties.Number("reconnect-delay")));
        try
        {
            NbdExportInfo info = link.Open(TimeSpan.FromSeconds(properties.Number("open-timeout")));
            NodeOptions node = parts.Node;
            if (info.Has(NbdExportFlags.ReadOnly) && !node.ReadOnly)
                node = parts.Around.AutoReadOnly ? node with { ReadOnly = true }
                    : throw new ConfigurationException("request on write denied without write permission");
            return new NbdDriver(link, info, NbdFileName.Of(path, host ?? "", port, export), node);
        }
        catch
        {
            link.Dispose();
            throw;
        }
    }

    static (string? Path, string? Host, string? Port) Server(Options server)
    {
        (string? Path, string? Host, string? Port) found = server.Required("type") switch
        {
            "inet" => (null, server.Required("host"), server.Required("port")),
            "unix" => (server.Required("path"), null, null),
            string other => throw server.Error($"server.type={other}: one of inet, unix is expected"),
        };
        server.Close();
        return found;
    }

    static int Port(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int port) && port <= ushort.MaxValue
            ? port : throw new ConfigurationException($"port '{text}' is not a number from 0 to 65535");

    public override string FormatName => Model.Name;
    public override string FileName { get; }
    public override long Length => _info.Length;
    public override ImageFacts Facts => new();

    public override ValueTask FlushAsync() => IsReadOnly || !_info.Has(NbdExportFlags.SendFlush) ? default
        : Simply(NbdCommand.Flush, 0, 0, 0, default);

    public override ValueTask DisposeAsync()
    {
        _link.Dispose();
        return default;
    }

    protected override ValueTask ReadCore(long offset, ScatterList buffers) =>
        IsAligned(offset, buffers.Length) && buffers.Length <= _largest
            ? Simply(NbdCommand.Read, 0, offset, buffers.Length, buffers) : ReadPartsAsync(offset, buffers);

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => WriteAsync(offset, buffers, 0);

    protected override bool HasFua => _info.Has(NbdExportFlags.SendFua);

    protected override ValueTask WriteFuaCore(long offset, ScatterList buffers) =>
        WriteAsync(offset, buffers, NbdCommandFlags.Fua);

    protected override async ValueTask DiscardCore(long offset, long length)
    {
        if (!_info.Has(NbdExportFlags.SendTrim)) return;
        // What is no whole block stays.
        long end = (offset + length) / _alignment * _alignment;
        for (long at = (offset + _alignment - 1) / _alignment * _alignment; at < end; at += LargestRange)
            await RunAsync(NbdCommand.Trim, 0, at, Math.Min(LargestRange, end - at), default).ConfigureAwait(false);
    }

    protected override async ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap)
    {
        bool isPlain = !_info.Has(NbdExportFlags.SendWriteZeroes) || !IsAligned(offset, length);
        long step = isPlain ? Math.Min(_largest, 1 << 20) : LargestRange;
        for (long done = 0; done < length; done += step)
        {
            long count = Math.Min(step, length - done);
            if (isPlain) await WriteAsync(offset + done, ScatterLists.Zeroes(count), 0).ConfigureAwait(false);
            else
                await RunAsync(NbdCommand.WriteZeroes, mayUnmap ? 0 : NbdCommandFlags.NoHole, offset + done, count,
                    default).ConfigureAwait(false);
        }
    }

    protected override async ValueTask<BlockStatus> StatusCore(long offset, long length)
    {
        long skip = offset % _alignment;
        if (_info.Context == null || offset - skip + _alignment > Length)
            return BlockStatus.Data(length) with { HostNode = this, HostOffset = offset };
        long asked = Math.Min(LargestRange, (length + skip + _alignment - 1) / _alignment * _alignment);
        asked = Math.Min(asked, (Length - offset + skip) / _alignment * _alignment);
        BlockStatus status = await RunAsync(NbdCommand.BlockStatus, NbdCommandFlags.ReqOne, offset - skip, asked,
            default).ConfigureAwait(false);
        long known = Math.Min(length, status.Length - skip);
        return known > 0 ? status with { Length = known, HostNode = this, HostOffset = offset }
            : BlockStatus.Data(Math.Min(length, _alignment - skip));
    }

    bool IsAligned(long offset, long length) => _alignment == 1 || (offset | length) % _alignment == 0;

    async ValueTask ReadPartsAsync(long offset, ScatterList buffers)
    {
        for (long done = 0; done < buffers.Length;)
        {
            int skip = (int)((offset + done) % _alignment);
            long count = Math.Min(buffers.Length - done, _largest - skip);
            ScatterList part = buffers.Slice(done, count);
            if (IsAligned(offset + done, count))
                await RunAsync(NbdCommand.Read, 0, offset + done, count, part).ConfigureAwait(false);
            else
            {
                byte[] blocks = await ReadBlocksAsync(offset + done - skip, skip + count).ConfigureAwait(false);
                part.CopyFrom(blocks.AsSpan(skip, (int)count));
            }
            done += count;
        }
    }

    /// <summary>Blocks that contain a range.</summary>
    async ValueTask<byte[]> ReadBlocksAsync(long offset, long length)
    {
        var blocks = new byte[(length + _alignment - 1) / _alignment * _alignment];
        await RunAsync(NbdCommand.Read, 0, offset, blocks.Length, new ScatterList(blocks)).ConfigureAwait(false);
        return blocks;
    }

    ValueTask WriteAsync(long offset, ScatterList buffers, NbdCommandFlags flags) =>
        _alignment == 1 && buffers.Length <= _largest
            ? Simply(NbdCommand.Write, flags, offset, buffers.Length, buffers)
            : WritePartsAsync(offset, buffers, flags);

    /// <summary>What only partly fills a block reads that first, so nobody else may change it meanwhile.</summary>
    async ValueTask WritePartsAsync(long offset, ScatterList buffers, NbdCommandFlags flags)
    {
        for (long done = 0; done < buffers.Length;)
        {
            int skip = (int)((offset + done) % _alignment);
            long count = Math.Min(buffers.Length - done, _largest - skip);
            ScatterList part = buffers.Slice(done, count);
            bool isPartial = !IsAligned(offset + done, count);
            LinkedListNode<RangeLock.Hold> hold = await _writes.AcquireAsync((offset + done) / _alignment,
                (offset + done + count + _alignment - 1) / _alignment, isPartial).ConfigureAwait(false);
            try
            {
                if (isPartial)
                {
                    byte[] blocks = await ReadBlocksAsync(offset + done - skip, skip + count).ConfigureAwait(false);
                    part.CopyTo(blocks.AsSpan(skip));
                    part = new ScatterList(blocks);
                }
                await RunAsync(NbdCommand.Write, flags, offset + done - skip, part.Length, part).ConfigureAwait(false);
            }
            finally { _writes.Release(hold); }
            done += count;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask Simply(NbdCommand command, NbdCommandFlags flags, long offset, long length, ScatterList buffers) =>
        await RunAsync(command, flags, offset, length, buffers).ConfigureAwait(false);

    /// <summary>Until it is answered: by another connection if one is lost.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<BlockStatus> RunAsync(NbdCommand command, NbdCommandFlags flags, long offset, long length,
        ScatterList buffers)
    {
        while (true)
        {
            NbdChannel channel = await _link.ChannelAsync().ConfigureAwait(false);
            try { return await channel.RunAsync(command, flags, offset, length, buffers).ConfigureAwait(false); }
            catch (NbdLostException) when (_link.Repeats) { }
            catch (NbdLostException e) { throw new BlockException($"{FileName}: {e.Message}", Errno.Io); }
        }
    }
}
