using System.Buffers.Binary;
using System.Text;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Nbd;

/// <summary>Sends a client what its requests have come to, one reply or chunk after another. From any thread; nothing
/// is allocated but for errors.</summary>
sealed class NbdReplies(BlockingSocket socket, bool isStructured)
{
    const ushort Done = 1;

    readonly Lock _lock = new();
    readonly GatherList _list = new();                             // within the lock

    public bool IsStructured => isStructured;

    /// <summary>Success without data.</summary>
    public void Succeed(in NbdRequest request)
    {
        lock (_lock)
        {
            // Without data a simple reply is right in any case, but for a read, whose replies are chunks.
            if (isStructured && request.Command == NbdCommand.Read) BeginChunk(request, NbdChunk.None, 0, Done);
            else BeginSimple(request, 0);
            socket.Write(_list);
        }
    }

    public void Fail(in NbdRequest request, int errno, string message)
    {
        lock (_lock)
        {
            if (!isStructured) BeginSimple(request, NbdError.Of(errno));
            else
            {
                var text = Encoding.UTF8.GetBytes(message);
                if (text.Length > NbdProtocol.MaxString) text = text[..NbdProtocol.MaxString];
                var data = new byte[6 + text.Length];
                BinaryPrimitives.WriteUInt32BigEndian(data, NbdError.Of(errno));
                BinaryPrimitives.WriteUInt16BigEndian(data.AsSpan(4), (ushort)text.Length);
                text.CopyTo(data, 6);
                BeginChunk(request, NbdChunk.Error, data.Length, Done);
                _list.Add(data);
            }
            WriteList();
        }
    }

    /// <summary>A part of a structured reply, or a whole simple one.</summary>
    /// <param name="isLast">Nothing is left of the request.</param>
    public void Data(in NbdRequest request, long offset, Memory<byte> data, bool isLast)
    {
        lock (_lock)
        {
            BeginData(request, offset, data.Length, isLast);
            _list.Add(data);
            WriteList();
        }
    }

    /// <summary>The same from the page cache, without a copy.</summary>
    /// <exception cref="HostException">There was less than promised: the connection is of no use any more.</exception>
    public void Data(in NbdRequest request, long offset, long length, bool isLast, NbdWorker source)
    {
        lock (_lock)
        {
            BeginData(request, offset, length, isLast);
            socket.Write(_list, more: true);
            for (long sent = 0; sent < length;)
            {
                long n = source.SendSome(socket.Socket, offset + sent, length - sent);
                if (n > 0) sent += n;
                else socket.WaitForRoom((int)n);
            }
        }
    }

    /// <summary>A reply in one piece that is longer than memory is given for it: each part is read while the others
    /// wait.</summary>
    /// <param name="read">Fills a part: its offset from the beginning, its length. Null: it failed.</param>
    /// <remarks>A structured reply goes on with an error then, or with the end; a simple one cannot.</remarks>
    public void Data(in NbdRequest request, int part, Func<long, int, Memory<byte>?> read)
    {
        lock (_lock)
        {
            BeginData(request, request.Offset, request.Length, isLast: false);
            socket.Write(_list, more: true);
            bool isWhole = true;
            for (long done = 0; done < request.Length; done += part)
            {
                int count = (int)Math.Min(part, request.Length - done);
                Memory<byte>? data = isWhole ? read(done, count) : null;
                isWhole = data != null;
                if (!isWhole && !isStructured) throw new HostException("read", Io);
                socket.Write((data ?? new byte[count]).Span);
            }
        }
    }

    public void Hole(in NbdRequest request, long offset, long length, bool isLast)
    {
        lock (_lock)
        {
            Span<byte> rest = BeginChunk(request, NbdChunk.OffsetHole, 12, isLast ? Done : (ushort)0, 12);
            BinaryPrimitives.WriteInt64BigEndian(rest, offset);
            BinaryPrimitives.WriteUInt32BigEndian(rest[8..], (uint)length);
            WriteList();
        }
    }

    /// <param name="descriptors">As <see cref="NbdContexts.Describe"/> has them.</param>
    public void Status(in NbdRequest request, uint context, Memory<byte> descriptors, bool isLast)
    {
        lock (_lock)
        {
            Span<byte> rest = BeginChunk(request, NbdChunk.BlockStatus, 4 + descriptors.Length,
                isLast ? Done : (ushort)0, 4);
            BinaryPrimitives.WriteUInt32BigEndian(rest, context);
            _list.Add(descriptors);
            WriteList();
        }
    }

    const int Io = 5;

    void WriteList()
    {
        try { socket.Write(_list); }
        finally { _list.Clear(); }
    }

    void BeginData(in NbdRequest request, long offset, long length, bool isLast)
    {
        if (!isStructured) BeginSimple(request, 0);
        else
            BinaryPrimitives.WriteInt64BigEndian(BeginChunk(request, NbdChunk.OffsetData, sizeof(long) + length,
                isLast ? Done : (ushort)0, sizeof(long)), offset);
    }

    void BeginSimple(in NbdRequest request, uint error)
    {
        Span<byte> header = _list.Begin(NbdProtocol.SimpleReplyLength);
        BinaryPrimitives.WriteUInt32BigEndian(header, NbdProtocol.SimpleReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(header[4..], error);
        BinaryPrimitives.WriteUInt64BigEndian(header[8..], request.Cookie);
    }

    /// <param name="length">Of what follows the header.</param>
    /// <param name="inHeader">How much of that the caller fills in, into what this returns.</param>
    Span<byte> BeginChunk(in NbdRequest request, NbdChunk type, long length, ushort flags, int inHeader = 0)
    {
        Span<byte> header = _list.Begin(NbdProtocol.ChunkLength + inHeader);
        BinaryPrimitives.WriteUInt32BigEndian(header, NbdProtocol.ChunkMagic);
        BinaryPrimitives.WriteUInt16BigEndian(header[4..], flags);
        BinaryPrimitives.WriteUInt16BigEndian(header[6..], (ushort)type);
        BinaryPrimitives.WriteUInt64BigEndian(header[8..], request.Cookie);
        BinaryPrimitives.WriteUInt32BigEndian(header[16..], (uint)length);
        return header[NbdProtocol.ChunkLength..];
    }
}
