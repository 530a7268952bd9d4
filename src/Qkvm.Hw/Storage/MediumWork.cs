using Qkvm.Core.Block;

namespace Qkvm.Hw.Storage;

/// <summary>What a command's parameters have the medium do: ranges of it, one after another. Reused; under the machine
/// lock.</summary>
/// <param name="done">Hears of the end: 0, or the first errno.</param>
public sealed class MediumWork(Action<int> done) : BlockRequest
{
    const int PatternSize = 128 << 10;

    readonly List<(long Offset, long Length)> _ranges = [];
    byte[]? _pattern;
    BlockBackend? _medium;
    long _at, _left;

    public bool IsEmpty => _ranges.Count == 0;

    /// <summary>Forgets them, for a command that was refused after all.</summary>
    public void Clear() => _ranges.Clear();

    /// <summary>One more range, in bytes.</summary>
    public void Add(long offset, long length)
    {
        if (length > 0) _ranges.Add((offset, length));
    }

    public void Discard() => (Operation, MayUnmap, _pattern) = (BlockOperation.Discard, true, null);

    /// <summary>WRITE SAME of one block.</summary>
    /// <param name="mayUnmap">Zeros need not be stored.</param>
    public void Fill(ReadOnlySpan<byte> block, bool mayUnmap)
    {
        (Operation, MayUnmap, _pattern) = (BlockOperation.WriteZeroes, mayUnmap, null);
        if (block.IndexOfAnyExcept((byte)0) < 0) return;
        (Operation, _pattern) = (BlockOperation.Write, new byte[Math.Max(PatternSize, block.Length)]);
        for (int at = 0; at < _pattern.Length; at += block.Length) block.CopyTo(_pattern.AsSpan(at));
    }

    /// <summary>Starts with the first; there is one.</summary>
    public void Start(BlockBackend medium)
    {
        _medium = medium;
        Next();
    }

    public override void Complete(int errno)
    {
        Buffers = default;
        if (errno != 0) (_left, _pattern) = (0, null);
        if (errno != 0) _ranges.Clear();
        if (_left > 0) Submit();
        else if (_ranges.Count > 0) Next();
        else
        {
            _pattern = null;
            done(errno);
        }
    }

    void Next()
    {
        (_at, _left) = _ranges[^1];
        _ranges.RemoveAt(_ranges.Count - 1);
        Submit();
    }

    void Submit()
    {
        long count = _pattern is { } pattern ? Math.Min(_left, pattern.Length) : _left;
        (Offset, Length) = (_at, count);
        if (_pattern != null) Buffers = new ScatterList(_pattern.AsMemory(0, (int)count));
        _at += count;
        _left -= count;
        _medium!.Submit(this);
    }
}
