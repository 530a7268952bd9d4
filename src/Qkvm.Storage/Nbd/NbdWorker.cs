using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Nbd;

/// <summary>A thread that receives requests of a client, one at a time, does them and answers them.</summary>
/// <remarks>Its memory is one buffer, which grows up to <see cref="Piece"/> bytes: what is longer is dealt with in
/// pieces. While it uses the node it is inside the export's gate, but never while it waits for the client.</remarks>
sealed partial class NbdWorker(NbdTransmission client)
{
    const int Piece = 2 << 20, SmallestBuffer = 64 << 10, MaxStatus = 64 << 10;

    readonly NbdExport _export = client.Export;
    readonly NbdReplies _replies = client.Replies;
    readonly Memory<byte>[] _buffer = [Memory<byte>.Empty];
    NbdRequest _request;
    long _written;                                                 // bytes of a write that are done
    int _errno;                                                    // what is wrong with the request; 0 for nothing
    string _error = "";

    /// <summary>Returns when the client has gone.</summary>
    public void Run()
    {
        Span<byte> message = stackalloc byte[NbdProtocol.RequestLength];
        while (client.TakeTurn())
        {
            bool hasTurn = true;
            try
            {
                if (!client.Socket.TryRead(message) || !NbdRequest.TryRead(message, out _request)
                    || _request.Command == NbdCommand.Disconnect || !TryCheck())
                {
                    client.End();
                    return;
                }
                if (_request.Command == NbdCommand.Write) Receive();
                if (!IsQuick())
                {
                    client.PassTurn();
                    hasTurn = false;
                }
                Answer();
            }
            finally
            {
                if (hasTurn) client.EndTurn();
            }
        }
    }

    /// <summary>False: the client is beyond help, since what it is about to send makes no sense.</summary>
    bool TryCheck()
    {
        _errno = 0;
        bool hasData = _request.Command is NbdCommand.Read or NbdCommand.Write;
        if (_request.Length > NbdProtocol.MaxData && hasData)
        {
            Refuse(Errno.Inval, $"len ({_request.Length}) is larger than max len ({NbdProtocol.MaxData})");
            if (_request.Command == NbdCommand.Read) return true;
            _replies.Fail(_request, _errno, _error);
            return false;
        }
        NbdCommandFlags allowed = NbdCommandFlags.Fua | _request.Command switch
        {
            NbdCommand.Read when _replies.IsStructured => NbdCommandFlags.Df,
            NbdCommand.WriteZeroes => NbdCommandFlags.NoHole | NbdCommandFlags.FastZero,
            NbdCommand.BlockStatus => NbdCommandFlags.ReqOne,
            _ => NbdCommandFlags.None,
        };
        if (_request.Command > NbdCommand.BlockStatus)
            Refuse(Errno.Inval, $"invalid request type ({(ushort)_request.Command}) received");
        else if (_request.Writes && _export.IsReadOnly) Refuse(Errno.RoFs, "Export is read-only");
        else if (_request.Command != NbdCommand.Flush
            && (_request.Offset < 0 || _request.Offset > _export.Length - _request.Length))
            Refuse(_request.Command is NbdCommand.Write or NbdCommand.WriteZeroes ? Errno.NoSpc : Errno.Inval,
                $"operation past EOF; From: {(ulong)_request.Offset}, Len: {_request.Length}, Size: {_export.Length}");
        else if ((_request.Flags & ~allowed) != 0)
            Refuse(Errno.Inval, $"unsupported flags for command {_request.Command} (got 0x{(ushort)_request.Flags:x})");
        else if (_request.Command == NbdCommand.BlockStatus && _request.Length == 0)
            Refuse(Errno.Inval, "need non-zero length");
        else if (_request.Command == NbdCommand.BlockStatus && client.Contexts.Selected.Count == 0)
            Refuse(Errno.Inval, "CMD_BLOCK_STATUS not negotiated");
        return true;
    }

    void Refuse(int errno, string message) => (_errno, _error) = (errno, message);

    /// <summary>It can be answered from the page cache, which takes less time than giving the turn away.</summary>
    bool IsQuick()
    {
        if (_errno != 0 || _request.Length == 0 && _request.Command != NbdCommand.Flush) return true;
        if (_request.Command != NbdCommand.Read) return false;
        _export.Enter();
        try
        {
            return NbdExport.PlainFile(_export.Node) is var (file, start)
                && file.HasCached(start + _request.Offset, _request.Length);
        }
        finally { _export.Exit(); }
    }

    /// <summary>Takes what is to be written; where it is longer than the buffer, all but its end is written
    /// here.</summary>
    void Receive()
    {
        _written = 0;
        while (true)
        {
            int count = (int)Math.Min(Piece, _request.Length - _written);
            client.Socket.Read(Buffer(count).Span);
            if (_written + count == _request.Length) return;
            Apply(count, isLast: false);
            _written += count;
        }
    }

    void Answer()
    {
        if (_errno == 0 && _request.Command == NbdCommand.Read) Read();
        else if (_errno == 0 && _request.Command == NbdCommand.BlockStatus) Describe();
        else
        {
            Apply(_request.Command == NbdCommand.Write ? _request.Length - _written : _request.Length, isLast: true);
            if (_errno == 0) _replies.Succeed(_request);
            else _replies.Fail(_request, _errno, _error);
        }
    }

    /// <summary>Does what needs no answer but whether it was done. Of several failures the first is told.</summary>
    /// <param name="length">Of a write, what lies in the buffer.</param>
    void Apply(long length, bool isLast)
    {
        if (_errno != 0) return;
        bool isFua = isLast
            && (_request.Has(NbdCommandFlags.Fua) || (_export.IsWritethrough && _request.Writes));
        bool isOne = _written == 0;
        _export.Enter();
        try
        {
            (BlockDriver node, long offset) = (_export.Node, _request.Offset);
            switch (_request.Command)
            {
                case NbdCommand.Write:
                    ScatterLists.Wait(node.WriteAsync(offset + _written, List(length),
                        isFua && isOne ? WriteFlags.Fua : WriteFlags.None));
                    isFua &= !isOne;
                    break;
                case NbdCommand.Flush: isFua = true; break;
                case NbdCommand.Trim: ScatterLists.Wait(node.DiscardAsync(offset, length)); break;
                case NbdCommand.WriteZeroes: WriteZeroes(node, offset, length); break;
                case NbdCommand.Cache: Prefetch(node, offset, length); return;
            }
            if (isFua) ScatterLists.Wait(node.FlushAsync());
        }
        catch (BlockException e) { Refuse(e.Errno, e.Message); }
        finally { _export.Exit(); }
    }

    void WriteZeroes(BlockDriver node, long offset, long length)
    {
        if (_request.Has(NbdCommandFlags.FastZero) && NbdExport.PlainFile(node)?.File.HasFastZeroes != true)
            throw new BlockException("writing zeroes is not known to be fast here", Errno.OpNotSupp);
        ScatterLists.Wait(node.WriteZeroesAsync(offset, length, !_request.Has(NbdCommandFlags.NoHole)));
    }

    void Prefetch(BlockDriver node, long offset, long length)
    {
        for (long end = offset + length; offset < end; offset += Piece)
        {
            int count = (int)Math.Min(Piece, end - offset);
            Buffer(count);
            ScatterLists.Wait(node.ReadAsync(offset, List(count)));
        }
    }

    void Describe()
    {
        bool one = _request.Has(NbdCommandFlags.ReqOne);
        int left = client.Contexts.Selected.Count;
        foreach (NbdContext context in client.Contexts.Selected)
        {
            Memory<byte> target = Buffer(MaxStatus);
            int count;
            _export.Enter();
            try
            {
                count = NbdContexts.Describe(_export.Node, context, _request.Offset, _request.Length, one,
                    target.Span[..MaxStatus]);
            }
            catch (BlockException e)
            {
                _replies.Fail(_request, e.Errno, e.Message);
                return;
            }
            finally { _export.Exit(); }
            _replies.Status(_request, context.Id, target[..count], isLast: --left == 0);
        }
    }

    Memory<byte> Buffer(int length)
    {
        if (_buffer[0].Length < length)
            _buffer[0] = GC.AllocateUninitializedArray<byte>(Math.Max(SmallestBuffer,
                (int)BitOperations.RoundUpToPowerOf2((uint)length)), pinned: true);
        return _buffer[0][..length];
    }

    ScatterList List(long length) => new(_buffer, 0, 0, length);
}
