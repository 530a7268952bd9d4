using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Cuts a scatter-gather list into batches that one preadv takes.</summary>
ref struct IoVector(ScatterList list, Memory<byte>[] pieces)
{
    public const int Capacity = Libc.IovMax;

    const long MaxBytes = 1 << 30;                                 // a single call moves less than 2 GiB

    ScatterList.Enumerator _next = list.GetEnumerator();
    Memory<byte> _left;

    /// <summary>The next batch, held in the caller's array; false at the end.</summary>
    public bool Fill(out ReadOnlySpan<Memory<byte>> batch, out long length)
    {
        int count = 0;
        length = 0;
        while (count < Capacity && length < MaxBytes && (_left.Length > 0 || _next.MoveNext()))
        {
            if (_left.Length == 0) _left = _next.Current;
            int size = (int)Math.Min(_left.Length, MaxBytes - length);
            pieces[count++] = _left[..size];
            _left = _left[size..];
            length += size;
        }
        batch = pieces.AsSpan(0, count);
        return count > 0;
    }

    /// <summary>Drops what a short transfer has done; the batch lies in the array.</summary>
    public static ReadOnlySpan<Memory<byte>> Skip(ReadOnlySpan<Memory<byte>> batch, long done, Memory<byte>[] pieces)
    {
        int first = 0;
        while (first < batch.Length && done >= batch[first].Length) done -= batch[first++].Length;
        batch = batch[first..];
        if (done == 0) return batch;
        batch.CopyTo(pieces);                                      // may overlap: moves towards the start
        pieces[0] = pieces[0][(int)done..];
        return pieces.AsSpan(0, batch.Length);
    }
}
