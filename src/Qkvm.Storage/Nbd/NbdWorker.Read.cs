using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Nbd;

/// <summary>NBD_CMD_READ.</summary>
sealed partial class NbdWorker
{
    // Where the bytes lie that are about to be sent from the page cache, and of which node.
    BlockDriver? _sentNode;
    HostFile? _sentFile;
    long _sentStart;                                               // in the file, of the export's first byte

    void Read()
    {
        try
        {
            if (_request.Length == 0) _replies.Succeed(_request);
            else if (_replies.IsStructured && !_request.Has(NbdCommandFlags.Df)) ReadParts();
            else if (_request.Length > Piece) ReadLong();
            else Send(_request.Offset, _request.Length, null, isLast: true);
        }
        catch (BlockException e) { _replies.Fail(_request, e.Errno, e.Message); }
    }

    /// <summary>Data and holes, as they lie in the export.</summary>
    void ReadParts()
    {
        for (long at = _request.Offset, end = at + _request.Length; at < end;)
        {
            BlockStatus status = Status(at, end - at);
            long count = Math.Min(status.Length, end - at);
            if (!status.IsZero) count = Math.Min(count, Piece);
            bool isLast = at + count == end;
            if (status.IsZero) _replies.Hole(_request, at, count, isLast);
            else Send(at, count, status, isLast);
            at += count;
        }
    }

    BlockStatus Status(long offset, long length)
    {
        _export.Enter();
        try { return ScatterLists.Wait(ChainStatus.FindAsync(_export.Node, offset, length)).Status; }
        finally { _export.Exit(); }
    }

    /// <summary>A reply in one piece, or a part of a structured one.</summary>
    /// <param name="status">Of the whole range, where it has been asked for.</param>
    void Send(long offset, long length, BlockStatus? status, bool isLast)
    {
        if (CanSendFile(offset, length, status)) _replies.Data(_request, offset, length, isLast, this);
        else _replies.Data(_request, offset, Fill(offset, (int)length), isLast);
    }

    /// <summary>There is a file that has bytes of the export in the page cache, and goes on to have them whatever is
    /// written.</summary>
    bool CanSendFile(long offset, long length, BlockStatus? status)
    {
        _export.Enter();
        try
        {
            BlockDriver node = _export.Node;
            (FileDriver File, long Start)? found = NbdExport.PlainFile(node);
            if (found == null && node.IsReadOnly && status is { HostNode: FileDriver host } known)
                found = (host, known.HostOffset - offset);
            if (found is not var (file, start) || !file.HasCached(start + offset, length)) return false;
            (_sentNode, _sentFile, _sentStart) = (node, file.Host, start);
            return true;
        }
        finally { _export.Exit(); }
    }

    /// <summary>Sends bytes as long as the client takes them.</summary>
    /// <returns>How many, or minus an errno: -EAGAIN where it takes none now.</returns>
    public long SendSome(Qkvm.Host.Sockets.StreamSocket socket, long offset, long length)
    {
        _export.Enter();
        try
        {
            if (_export.Node == _sentNode) return _sentFile!.SendTo(socket, _sentStart + offset, length);
        }
        finally { _export.Exit(); }
        // The export has got another node meanwhile, and the file may be closed.
        return socket.Write(Fill(offset, (int)Math.Min(length, Piece)).Span);
    }

    /// <summary>In one piece, but longer than the buffer.</summary>
    void ReadLong()
    {
        BlockException? failure = null;
        _replies.Data(_request, Piece, (done, count) =>
        {
            try { return Fill(_request.Offset + done, count); }
            catch (BlockException e)
            {
                failure = e;
                return null;
            }
        });
        if (failure != null) _replies.Fail(_request, failure.Errno, failure.Message);
        else if (_replies.IsStructured) _replies.Succeed(_request);
    }

    Memory<byte> Fill(long offset, int length)
    {
        Memory<byte> target = Buffer(length);
        _export.Enter();
        try { ScatterLists.Wait(_export.Node.ReadAsync(offset, List(length))); }
        finally { _export.Exit(); }
        return target;
    }
}
