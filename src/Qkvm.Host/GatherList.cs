using System.Buffers;

namespace Qkvm.Host;

// SAFETY: what the vector points to is pinned from Add until Clear, and the system call is over before that.
/// <summary>Bytes of a header and pieces of memory that one system call writes in order. Reused; one thread at a
/// time.</summary>
public sealed unsafe class GatherList
{
    /// <summary>Pieces that fit, beside the header.</summary>
    public const int MaxPieces = Libc.IovMax - 1;

    const int MaxHeader = 64;

    readonly byte[] _header = GC.AllocateArray<byte>(MaxHeader, pinned: true);
    readonly Iovec[] _vector = GC.AllocateUninitializedArray<Iovec>(Libc.IovMax, pinned: true);
    readonly MemoryHandle[] _pins = new MemoryHandle[MaxPieces];
    int _pieces;
    int _first;                                                    // of what is left to be sent

    /// <summary>Bytes.</summary>
    public long Length { get; private set; }

    /// <summary>Begins anew with a header of so many bytes, at most 64, which the caller fills.</summary>
    public Span<byte> Begin(int headerLength)
    {
        fixed (byte* header = _header) _vector[0] = new Iovec { Base = header, Length = (nuint)headerLength };
        Length = headerLength;
        _first = 0;
        return _header.AsSpan(0, headerLength);
    }

    /// <summary>False: there is no room for more pieces.</summary>
    public bool Add(Memory<byte> piece)
    {
        if (_pieces == MaxPieces) return false;
        MemoryHandle pin = piece.Pin();
        _pins[_pieces++] = pin;
        _vector[_pieces] = new Iovec { Base = pin.Pointer, Length = (nuint)piece.Length };
        Length += piece.Length;
        return true;
    }

    /// <summary>Lets the pieces go.</summary>
    public void Clear()
    {
        for (int i = 0; i < _pieces; i++) _pins[i].Dispose();
        _pieces = 0;
    }

    /// <summary>Takes bytes off the front: they have been sent.</summary>
    public void Skip(long count)
    {
        Length -= count;
        for (; count > 0 && (nuint)count >= _vector[_first].Length; _first++) count -= (long)_vector[_first].Length;
        if (count == 0) return;
        ref Iovec cut = ref _vector[_first];
        cut = new Iovec { Base = (byte*)cut.Base + count, Length = cut.Length - (nuint)count };
    }

    /// <summary>Sends what is left, or a part of it.</summary>
    /// <param name="more">More follows at once.</param>
    /// <returns>Bytes sent, or minus the errno.</returns>
    public long SendTo(Sockets.StreamSocket socket, bool more = false)
    {
        fixed (Iovec* vector = _vector) return socket.Write(vector + _first, _pieces + 1 - _first, more);
    }

    /// <returns>Bytes written, or minus the errno.</returns>
    public long WriteTo(int fd)
    {
        fixed (Iovec* vector = _vector)
        {
            nint done = Libc.writev(fd, vector, _pieces + 1);
            return done < 0 ? -Libc.Errno : done;
        }
    }
}
