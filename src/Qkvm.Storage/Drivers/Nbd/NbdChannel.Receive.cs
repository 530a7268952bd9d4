using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Drivers.Nbd;

/// <summary>What a server sends back. Spec: doc/proto.md, "Simple reply message" and "Structured reply chunk
/// message".</summary>
/// <remarks>Lengths are checked against the request before anything is read.</remarks>
sealed partial class NbdChannel
{
    const int Common = 16;                                         // bytes that both kinds of replies have
    const ushort Done = 1;

    /// <summary>The server breaks the protocol.</summary>
    sealed class ProtocolException(string message) : Exception(message);

    void Receive()
    {
        string why = "the server has gone";
        Span<byte> header = stackalloc byte[NbdProtocol.ChunkLength];
        try
        {
            while (_socket.TryRead(header[..Common]))
            {
                NbdCall call = Find(BinaryPrimitives.ReadUInt64BigEndian(header[8..]));
                switch (BinaryPrimitives.ReadUInt32BigEndian(header))
                {
                    case NbdProtocol.SimpleReplyMagic:
                        TakeSimple(call, BinaryPrimitives.ReadUInt32BigEndian(header[4..]));
                        break;
                    case NbdProtocol.ChunkMagic when Info.IsStructured:
                        _socket.Read(header[Common..]);
                        TakeChunk(call, (NbdChunk)BinaryPrimitives.ReadUInt16BigEndian(header[6..]),
                            BinaryPrimitives.ReadUInt32BigEndian(header[Common..]));
                        if ((BinaryPrimitives.ReadUInt16BigEndian(header[4..]) & Done) != 0) End(call);
                        break;
                    case var magic: throw new ProtocolException($"invalid magic (got 0x{magic:x})");
                }
            }
        }
        catch (HostException e) { why = e.Message; }
        catch (ProtocolException e) { why = $"the server breaks the protocol: {e.Message}"; }
        Fail(why);
    }

    NbdCall Find(ulong cookie)
    {
        uint slot = (uint)cookie;
        NbdCall? call = null;
        lock (_calls)
            if (slot < MaxCalls) call = _calls[slot];
        return call != null && call.Request.Cookie == cookie ? call
            : throw new ProtocolException("a reply to a request that was not made");
    }

    void TakeSimple(NbdCall call, uint error)
    {
        bool isRead = call.Request.Command == NbdCommand.Read;
        if (call.Request.Command == NbdCommand.BlockStatus || (isRead && Info.IsStructured))
            throw new ProtocolException("a simple reply where a structured one is needed");
        if (error != 0) call.Error = Refused(call, error, "");
        else if (isRead) Fill(call, 0, call.Request.Length);
        End(call);
    }

    void End(NbdCall call)
    {
        bool isRead = call.Request.Command == NbdCommand.Read;
        if (call.Error == null && isRead && call.Received != call.Request.Length)
            throw new ProtocolException("less data than was asked for");
        if (call is { Error: null, Request.Command: NbdCommand.BlockStatus, Status.Length: 0 })
            throw new ProtocolException("no block status");
        Finish(call, call.Error);
    }

    void TakeChunk(NbdCall call, NbdChunk type, uint length)
    {
        switch (type)
        {
            case NbdChunk.None when length == 0: break;
            case NbdChunk.OffsetData when length > sizeof(long): TakeData(call, length - sizeof(long)); break;
            case NbdChunk.OffsetHole when length == 12: TakeHole(call); break;
            case NbdChunk.BlockStatus when length >= 12 && length % 8 == 4: TakeStatus(call, length); break;
            case NbdChunk.Error or NbdChunk.ErrorOffset: TakeError(call, length); break;
            default:
                if (type < NbdChunk.Error || length > NbdProtocol.MaxData)
                    throw new ProtocolException($"a chunk of type {(ushort)type} with {length} bytes");
                _socket.Skip(length);
                call.Error ??= Refused(call, NbdError.Io, "");
                break;
        }
    }

    void TakeData(NbdCall call, uint length)
    {
        if (length > call.Request.Length) throw new ProtocolException("data that nobody has asked for");
        Span<byte> offset = stackalloc byte[sizeof(long)];
        _socket.Read(offset);
        Fill(call, PlaceOf(call, BinaryPrimitives.ReadInt64BigEndian(offset), length), length);
    }

    void TakeHole(NbdCall call)
    {
        Span<byte> hole = stackalloc byte[12];
        _socket.Read(hole);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(hole[8..]);
        call.Buffers.Slice(PlaceOf(call, BinaryPrimitives.ReadInt64BigEndian(hole), length), length).Clear();
        call.Received += length;
    }

    /// <summary>Where in the buffers a chunk belongs.</summary>
    static long PlaceOf(NbdCall call, long offset, uint length)
    {
        NbdRequest request = call.Request;
        bool isInside = offset >= request.Offset && offset - request.Offset <= request.Length - length;
        if (request.Command != NbdCommand.Read || !isInside || call.Received + length > request.Length)
            throw new ProtocolException("data that nobody has asked for");
        return offset - request.Offset;
    }

    void Fill(NbdCall call, long place, long length)
    {
        foreach (Memory<byte> piece in call.Buffers.Slice(place, length)) _socket.Read(piece.Span);
        call.Received += length;
    }

    /// <summary>The first run of bytes is enough.</summary>
    void TakeStatus(NbdCall call, uint length)
    {
        Span<byte> status = stackalloc byte[12];
        _socket.Read(status);
        _socket.Skip(length - status.Length);
        uint id = BinaryPrimitives.ReadUInt32BigEndian(status), run = BinaryPrimitives.ReadUInt32BigEndian(status[4..]),
            flags = BinaryPrimitives.ReadUInt32BigEndian(status[8..]);
        if (call.Request.Command != NbdCommand.BlockStatus || id != Info.Context || run == 0)
            throw new ProtocolException("a block status that nobody has asked for");
        call.Status = new BlockStatus(Math.Min(run, call.Request.Length), (flags & NbdProtocol.StateHole) == 0,
            (flags & NbdProtocol.StateZero) != 0, IsAllocated: true);
    }

    void TakeError(NbdCall call, uint length)
    {
        Span<byte> head = stackalloc byte[6];
        if (length < head.Length || length > NbdProtocol.MaxData) throw new ProtocolException("an error of no length");
        _socket.Read(head);
        uint error = BinaryPrimitives.ReadUInt32BigEndian(head), size = BinaryPrimitives.ReadUInt16BigEndian(head[4..]);
        if (error == 0 || size > length - head.Length || size > NbdProtocol.MaxString)
            throw new ProtocolException("an error that makes no sense");
        var text = new byte[size];
        _socket.Read(text);
        _socket.Skip(length - head.Length - size);
        call.Error ??= Refused(call, error, Encoding.UTF8.GetString(text));
    }

    static BlockException Refused(NbdCall call, uint error, string message)
    {
        int errno = NbdError.ToErrno(error);
        string said = string.Concat(message.Select(c => char.IsControl(c) ? '?' : c));
        if (said.Length > 0) said = $" ({said})";
        return new BlockException($"NBD {call.Request.Command} at {call.Request.Offset}: {Libc.Message(errno)}{said}",
            errno);
    }
}
