using System.Runtime.ExceptionServices;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;

namespace Qkvm.Img.Copying;

/// <summary>Copies a disk in pieces, on several threads: while some read, others compress and one writes.</summary>
/// <param name="report">Takes the part that is done, 0 to 1.</param>
sealed class Copier(CopyPlan plan, Action<double> report)
{
    /// <summary>Bytes that are read at once.</summary>
    public const int Piece = 2 << 20;

    const int SectorSize = 512;

    readonly object _lock = new();                                 // with Monitor's turns
    readonly PieceSource _pieces = new(plan);
    readonly ICompressedWrites? _compressed = plan.IsCompressed ? (ICompressedWrites)plan.Target : null;
    readonly bool _isOrdered = !plan.IsUnordered && !plan.IsCompressed && plan.Target.Facts.ClusterSize != null;

    // Zeros are looked for in blocks of the target's clusters, where it has some.
    readonly int _block = Math.Max(Math.Max(plan.Sparse, SectorSize), plan.Target.Facts.ClusterSize ?? 0);
    long _taken, _turn, _done;
    Exception? _failure;
    bool _copiesInKernel = true;

    public void Run()
    {
        var threads = new Thread[plan.Workers];
        for (int i = 0; i < threads.Length; i++) (threads[i] = new Thread(Work) { IsBackground = true }).Start();
        foreach (Thread thread in threads) thread.Join();
        if (_failure != null) ExceptionDispatchInfo.Throw(_failure);
    }

    void Work()
    {
        byte[] buffer = [];
        try
        {
            while (Take(out CopyPiece piece, out long number))
            {
                // Only now, since a small disk does not need them all.
                if (buffer.Length < piece.Length && piece.Kind == PieceKind.Data)
                    buffer = GC.AllocateUninitializedArray<byte>(Math.Max(piece.Length, Math.Min(Piece, _block)),
                        pinned: true);
                Copy(piece, number, buffer);
                lock (_lock) report((_done += piece.Length) / (double)plan.Length);
            }
        }
        catch (Exception e)
        {
            lock (_lock)
            {
                _failure ??= e;
                Monitor.PulseAll(_lock);
            }
        }
    }

    bool Take(out CopyPiece piece, out long number)
    {
        lock (_lock)
        {
            number = _taken;
            while (_failure == null && _pieces.Next(out piece))
                if (piece.Kind == PieceKind.Skip) report((_done += piece.Length) / (double)plan.Length);
                else
                {
                    _taken++;
                    return true;
                }
        }
        piece = default;
        return false;
    }

    void Copy(in CopyPiece piece, long number, byte[] buffer)
    {
        if (piece.Kind == PieceKind.Zero)
        {
            if (!AwaitTurn(number)) return;
            (long offset, int length) = (piece.Offset, piece.Length);
            Write(offset, () => WriteZeroes(offset, length));
            EndTurn();
            return;
        }
        Memory<byte> data = buffer.AsMemory(0, piece.Length);
        if (!_isOrdered && TryCopyInKernel(piece)) return;
        Read(piece, data);
        if (_compressed != null)
        {
            Compress(piece.Offset, data);
            return;
        }
        if (!AwaitTurn(number)) return;
        WriteData(piece.Offset, data);
        EndTurn();
        Wait(plan.Limit.SpendAsync(piece.Length));
    }

    void Compress(long offset, Memory<byte> data)
    {
        bool isZero = plan.Sparse > 0 && !data.Span.ContainsAnyExcept((byte)0);
        if (isZero && plan.TargetIsZero) return;
        Write(offset, () => isZero ? plan.Target.WriteZeroesAsync(offset, data.Length, mayUnmap: true)
            : _compressed!.WriteCompressedAsync(offset, new ScatterList(data)));
        Wait(plan.Limit.SpendAsync(data.Length));
    }

    /// <summary>Runs of blocks that are zero and runs of others.</summary>
    void WriteData(long offset, Memory<byte> data)
    {
        for (int start = 0; start < data.Length;)
        {
            int end = start;
            bool isZero = false;
            while (end < data.Length)
            {
                int next = (int)Math.Min(data.Length, (offset + end) / _block * _block + _block - offset);
                bool isBlockZero = plan.Sparse > 0 && !data.Span[end..next].ContainsAnyExcept((byte)0);
                if (end == start) isZero = isBlockZero;
                else if (isBlockZero != isZero) break;
                end = next;
            }
            (long at, Memory<byte> run) = (offset + start, data[start..end]);
            if (!isZero) Write(at, () => plan.Target.WriteAsync(at, new ScatterList(run)));
            else if (!plan.TargetIsZero) Write(at, () => WriteZeroes(at, run.Length));
            start = end;
        }
    }

    ValueTask WriteZeroes(long offset, int length) => plan.Sparse > 0
        ? plan.Target.WriteZeroesAsync(offset, length, mayUnmap: true) : WritePlainZeroesAsync(offset, length);

    async ValueTask WritePlainZeroesAsync(long offset, int length)
    {
        var zeroes = new byte[Math.Min(length, Piece)];
        for (int done = 0; done < length; done += zeroes.Length)
            await plan.Target.WriteAsync(offset + done,
                new ScatterList(zeroes.AsMemory(0, Math.Min(zeroes.Length, length - done)))).ConfigureAwait(false);
    }

    /// <summary>False from the first time on that it does not work.</summary>
    bool TryCopyInKernel(in CopyPiece piece)
    {
        if (!_copiesInKernel || piece.Status.HostNode is not { } host) return false;
        ValueTask<bool> copy = plan.Target.TryCopyAsync(piece.Offset, host, piece.Status.HostOffset, piece.Length,
            mayMove: plan.UsesCopyRange || plan.Sparse == 0);
        return _copiesInKernel = copy.AsTask().GetAwaiter().GetResult();
    }

    void Read(in CopyPiece piece, Memory<byte> data)
    {
        try { Wait(plan.ReadAsync(piece.Offset, data)); }
        catch (BlockException) when (plan.Salvage != null) { ReadSectors(piece, data); }
        catch (BlockException e)
        {
            throw new ToolException($"error while reading at byte {piece.Offset}: {Libc.Message(e.Errno)}");
        }
    }

    void ReadSectors(in CopyPiece piece, Memory<byte> data)
    {
        for (int at = 0; at < data.Length; at += SectorSize)
        {
            Memory<byte> sector = data.Slice(at, Math.Min(SectorSize, data.Length - at));
            try { Wait(plan.ReadAsync(piece.Offset + at, sector)); }
            catch (BlockException e)
            {
                plan.Salvage!($"error while reading offset {piece.Offset + at}: {Libc.Message(e.Errno)}");
                sector.Span.Clear();
            }
        }
    }

    static void Write(long offset, Func<ValueTask> write)
    {
        try { Wait(write()); }
        catch (BlockException e)
        {
            throw new ToolException($"error while writing at byte {offset}: {Libc.Message(e.Errno)}");
        }
    }

    /// <summary>False where something failed meanwhile.</summary>
    bool AwaitTurn(long number)
    {
        if (!_isOrdered) return true;
        lock (_lock)
        {
            while (_turn != number && _failure == null) Monitor.Wait(_lock);
            return _failure == null;
        }
    }

    void EndTurn()
    {
        if (!_isOrdered) return;
        lock (_lock)
        {
            _turn++;
            Monitor.PulseAll(_lock);
        }
    }

    static void Wait(ValueTask task)
    {
        if (task.IsCompleted) task.GetAwaiter().GetResult();
        else task.AsTask().GetAwaiter().GetResult();
    }
}
