namespace Qkvm.Core.Block;

/// <summary>What a disk has been asked for, by operation. Any thread counts; each figure is right by itself.</summary>
public sealed class BlockStatistics
{
    const int Operations = (int)BlockOperation.WriteZeroes + 1;

    readonly long[] _count = new long[Operations], _bytes = new long[Operations], _time = new long[Operations],
        _failed = new long[Operations];
    long _highestWritten;

    /// <param name="nanoseconds">From the submission to the end.</param>
    internal void Add(BlockRequest request, long nanoseconds, int errno)
    {
        int kind = (int)request.Operation;
        if (errno != 0) { Interlocked.Increment(ref _failed[kind]); return; }
        long length = request.Bytes;
        Interlocked.Increment(ref _count[kind]);
        Interlocked.Add(ref _bytes[kind], length);
        Interlocked.Add(ref _time[kind], nanoseconds);
        if (request.Operation == BlockOperation.Write && request.Offset + length > Volatile.Read(ref _highestWritten))
            Volatile.Write(ref _highestWritten, request.Offset + length);
    }

    public long Count(BlockOperation kind) => Volatile.Read(ref _count[(int)kind]);
    public long Bytes(BlockOperation kind) => Volatile.Read(ref _bytes[(int)kind]);

    /// <summary>Nanoseconds that requests took, all together.</summary>
    public long Time(BlockOperation kind) => Volatile.Read(ref _time[(int)kind]);
    public long Failed(BlockOperation kind) => Volatile.Read(ref _failed[(int)kind]);

    /// <summary>The end of what was written farthest from the start, in bytes.</summary>
    public long HighestWritten => Volatile.Read(ref _highestWritten);
}
