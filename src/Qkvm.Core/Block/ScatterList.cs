namespace Qkvm.Core.Block;

/// <summary>A run of bytes over several pieces of memory, in order. A value: slicing allocates nothing.</summary>
/// <param name="segments">The pieces; not changed while the request runs.</param>
/// <param name="first">The first piece that belongs to it.</param>
/// <param name="skip">Bytes to leave out at the start of that piece.</param>
public readonly struct ScatterList(IReadOnlyList<Memory<byte>> segments, int first, int skip, long length)
{
    public ScatterList(IReadOnlyList<Memory<byte>> segments) : this(segments, 0, 0, Sum(segments)) { }

    public ScatterList(Memory<byte> single) : this([single], 0, 0, single.Length) { }

    /// <summary>Bytes.</summary>
    public long Length { get; } = length;

    public ScatterList Slice(long offset, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length - count);
        int piece = first;
        long at = skip + offset;
        while (count > 0 && at >= segments[piece].Length) at -= segments[piece++].Length;
        return new ScatterList(segments, piece, count > 0 ? (int)at : 0, count);
    }

    public Enumerator GetEnumerator() => new(segments, first, skip, Length);

    public void CopyTo(Span<byte> target)
    {
        foreach (Memory<byte> piece in this)
        {
            piece.Span.CopyTo(target);
            target = target[piece.Length..];
        }
    }

    public void CopyFrom(ReadOnlySpan<byte> source)
    {
        foreach (Memory<byte> piece in this)
        {
            source[..piece.Length].CopyTo(piece.Span);
            source = source[piece.Length..];
        }
    }

    public void Clear()
    {
        foreach (Memory<byte> piece in this) piece.Span.Clear();
    }

    static long Sum(IReadOnlyList<Memory<byte>> segments)
    {
        long sum = 0;
        for (int i = 0; i < segments.Count; i++) sum += segments[i].Length;
        return sum;
    }

    public struct Enumerator(IReadOnlyList<Memory<byte>> segments, int first, int skip, long left)
    {
        int _next = first;
        int _skip = skip;
        long _left = left;

        public Memory<byte> Current { get; private set; }

        public bool MoveNext()
        {
            while (_left > 0)
            {
                Memory<byte> piece = segments[_next++][_skip..];
                _skip = 0;
                if (piece.Length == 0) continue;
                if (piece.Length > _left) piece = piece[..(int)_left];
                _left -= piece.Length;
                Current = piece;
                return true;
            }
            return false;
        }
    }
}
