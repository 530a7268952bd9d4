using System.Numerics;

namespace Qkvm.Core.Block.Images;

/// <summary>Which bytes of a disk were written since it was cleared, in memory. From any thread.</summary>
/// <param name="granularityBits">Log2 of the bytes that one bit stands for.</param>
/// <param name="size">Bytes of the disk.</param>
public class DirtyBitmap(string name, int granularityBits, long size) : IBitmap
{
    readonly Lock _lock = new();
    ulong[] _words = new ulong[WordsOf(size, granularityBits)];
    long _dirty;                                                   // bits that are set

    public string Name => name;
    public int Granularity => 1 << granularityBits;
    public bool IsEnabled
    {
        get;
        set
        {
            OnChanging();
            field = value;
        }
    }

    /// <summary>Before others change it.</summary>
    protected virtual void OnChanging() { }

    public bool IsInconsistent { get; protected init; }
    public virtual bool IsPersistent => false;
    public bool IsBusy { get; set; }

    /// <summary>Bytes of the disk.</summary>
    public long Size { get; private set; } = size;

    public long Count => Volatile.Read(ref _dirty) << granularityBits;

    /// <summary>Bytes of the bits.</summary>
    public long ByteLength => (Bits + 7) / 8;

    long Bits => (Size + Granularity - 1) >> granularityBits;

    static long WordsOf(long size, int granularityBits) =>
        (((size + (1L << granularityBits) - 1) >> granularityBits) + 63) / 64;

    /// <summary>Bits as images have them: the first in the lowest bit of the first byte.</summary>
    public void Load(long byteOffset, ReadOnlySpan<byte> data)
    {
        lock (_lock)
            for (int i = 0; i < data.Length; i++)
                if (data[i] != 0 && (byteOffset + i) / 8 < _words.Length)
                    Put((byteOffset + i) / 8, (ulong)data[i] << (int)((byteOffset + i) % 8 * 8), isSet: true);
    }

    public void Save(long byteOffset, Span<byte> data)
    {
        lock (_lock)
            for (int i = 0; i < data.Length; i++)
                data[i] = (byteOffset + i) / 8 < _words.Length
                    ? (byte)(_words[(byteOffset + i) / 8] >> (int)((byteOffset + i) % 8 * 8)) : (byte)0;
    }

    public void Resize(long bytes)
    {
        lock (_lock)
        {
            Array.Resize(ref _words, (int)WordsOf(bytes, granularityBits));
            Size = bytes;
            if (Bits % 64 != 0 && _words.Length > 0) _words[^1] &= (1UL << (int)(Bits % 64)) - 1;
            _dirty = _words.Sum(static word => (long)BitOperations.PopCount(word));
        }
    }

    public long NextDirty(long offset) => Next(offset, flip: 0);

    public long NextClean(long offset) => Next(offset, flip: ulong.MaxValue);

    long Next(long offset, ulong flip)
    {
        lock (_lock)
        {
            long bit = offset >> granularityBits;
            for (long word = bit / 64; word < _words.Length; word++)
            {
                ulong found = (_words[word] ^ flip) & (word == bit / 64 ? ulong.MaxValue << (int)(bit % 64)
                    : ulong.MaxValue);
                if (found == 0) continue;
                long first = word * 64 + BitOperations.TrailingZeroCount(found);
                return first >= Bits ? -1 : Math.Max(offset, first << granularityBits);
            }
            return -1;
        }
    }

    public void Set(long offset, long length) => Change(offset, length, isSet: true);

    /// <summary>Makes bits clean; of those that are only partly in the range, too.</summary>
    public void Reset(long offset, long length) => Change(offset, length, isSet: false);

    public void Clear() => Reset(0, Size);

    public void Join(IBitmap source)
    {
        for (long at = source.NextDirty(0); at >= 0;)
        {
            long end = source.NextClean(at);
            Set(at, (end < 0 ? long.MaxValue : end) - at);
            at = end < 0 ? -1 : source.NextDirty(end);
        }
    }

    void Change(long offset, long length, bool isSet)
    {
        if (length <= 0) return;
        OnChanging();
        lock (_lock)
        {
            long end = Math.Min(((offset + length - 1) >> granularityBits) + 1, Bits);
            for (long bit = offset >> granularityBits; bit < end;)
            {
                int shift = (int)(bit % 64), count = (int)Math.Min(64 - shift, end - bit);
                Put(bit / 64, (count == 64 ? ulong.MaxValue : (1UL << count) - 1) << shift, isSet);
                bit += count;
            }
        }
    }

    void Put(long word, ulong mask, bool isSet)
    {
        ulong before = _words[word], after = isSet ? before | mask : before & ~mask;
        _words[word] = after;
        _dirty += BitOperations.PopCount(after) - BitOperations.PopCount(before);
    }
}
