namespace Qkvm.Backends.Net.User;

/// <summary>Buffers for connections, within a bound for all of them together.</summary>
sealed class BufferPool(long limit)
{
    /// <summary>Bytes of the sizes that there are.</summary>
    static readonly int[] s_sizes = [16 << 10, 128 << 10, 1 << 20];

    const int MaxKept = 16;                                        // unused ones of each size

    readonly Stack<byte[]>[] _free = [new(), new(), new()];

    /// <summary>Bytes that connections hold now.</summary>
    public long Used { get; private set; }

    public static int Largest => s_sizes[^1];

    /// <summary>The smallest that holds so many bytes behind its headroom; null if the bound does not allow
    /// it.</summary>
    public byte[]? Rent(int capacity)
    {
        int size = Array.FindIndex(s_sizes, s => s >= capacity);
        if (size < 0 || Used + s_sizes[size] > limit) return null;
        Used += s_sizes[size];
        return _free[size].TryPop(out byte[]? kept) ? kept
            : GC.AllocateUninitializedArray<byte>(ByteRing.Headroom + s_sizes[size]);
    }

    public void Return(byte[] buffer)
    {
        int size = Array.IndexOf(s_sizes, buffer.Length - ByteRing.Headroom);
        Used -= s_sizes[size];
        if (_free[size].Count < MaxKept) _free[size].Push(buffer);
    }
}

/// <summary>Bytes on their way through a connection: a ring that grows as it is used, and holds no memory while it is
/// empty.</summary>
sealed class ByteRing(BufferPool pool)
{
    /// <summary>Bytes in front of the ring where a frame's headers fit.</summary>
    public const int Headroom = 128;

    byte[]? _buffer;
    int _start;
    int _wanted = 1;                                               // as large as it has been

    public int Count { get; private set; }

    int Capacity => _buffer == null ? 0 : _buffer.Length - Headroom;

    /// <summary>Room for more bytes, in up to two pieces. Grows first if it is full.</summary>
    /// <returns>False: no room.</returns>
    public bool TryGetFree(out Span<byte> first, out Span<byte> second)
    {
        first = second = default;
        if (Count == Capacity && !Grow()) return false;
        int end = _start + Count, capacity = Capacity;
        if (end >= capacity) first = _buffer.AsSpan(Headroom + end - capacity, capacity - Count);
        else
        {
            first = _buffer.AsSpan(Headroom + end, capacity - end);
            second = _buffer.AsSpan(Headroom, _start);
        }
        return true;
    }

    /// <summary>Bytes were written into the free room.</summary>
    public void Commit(int count) => Count += count;

    /// <summary>As many as it takes; returns how many.</summary>
    public int Append(ReadOnlySpan<byte> data)
    {
        int taken = 0;
        while (taken < data.Length && TryGetFree(out Span<byte> room, out _))
        {
            int count = Math.Min(room.Length, data.Length - taken);
            data.Slice(taken, count).CopyTo(room);
            Commit(count);
            taken += count;
        }
        return taken;
    }

    /// <summary>The bytes from a place on that lie together, at most so many.</summary>
    public Span<byte> Peek(int offset, int count) => PeekBehind(offset, count, 0);

    /// <summary>The same with bytes in front that are others': put them back after use. Empty if the headroom is cut
    /// off.</summary>
    public Span<byte> PeekBehind(int offset, int count, int headers)
    {
        int at = Place(offset);
        count = Math.Min(count, Capacity - at);
        return _buffer.AsSpan(Headroom + at - headers, headers + count);
    }

    /// <summary>The bytes from the first on that lie together.</summary>
    public Memory<byte> First => _buffer.AsMemory(Headroom + _start, Math.Min(Count, Capacity - _start));

    public void CopyTo(int offset, Span<byte> target)
    {
        while (target.Length > 0)
        {
            Span<byte> piece = Peek(offset, target.Length);
            piece.CopyTo(target);
            offset += piece.Length;
            target = target[piece.Length..];
        }
    }

    public void Drop(int count)
    {
        Count -= count;
        _start = Count == 0 ? 0 : Place(count);
        if (Count == 0) Release();
    }

    /// <summary>Drops all.</summary>
    public void Release()
    {
        if (_buffer != null) pool.Return(_buffer);
        (_buffer, _start, Count) = (null, 0, 0);
    }

    int Place(int offset)
    {
        int at = _start + offset, capacity = Capacity;
        return at >= capacity ? at - capacity : at;
    }

    bool Grow()
    {
        if (Capacity >= BufferPool.Largest) return false;
        if ((pool.Rent(Math.Max(_wanted, Capacity + 1)) ?? pool.Rent(Capacity + 1)) is not { } larger) return false;
        _wanted = larger.Length - Headroom;
        if (_buffer != null)
        {
            CopyTo(0, larger.AsSpan(Headroom, Count));
            pool.Return(_buffer);
        }
        (_buffer, _start) = (larger, 0);
        return true;
    }
}
