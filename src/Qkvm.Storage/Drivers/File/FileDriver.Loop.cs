using System.Runtime.CompilerServices;
using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Requests on a loop: from the page cache at once, else by its ring.</summary>
/// <remarks>Many reads are served by the page cache, where the ring only adds to the system call. Writes to a disk's
/// file system may wait
/// for it in ways that no flag forbids, and go to the ring.</remarks>
public sealed partial class FileDriver
{
    const int RingPieces = IoRing.MaxPieces;

    volatile bool _knowsNoWait = true;                             // the file system takes RWF_NOWAIT
    readonly LoopStep<Transfer>.Pool _transfers;
    [ThreadStatic] static Memory<byte>[]? t_pieces;                // a loop's own

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        if (operation == BlockOperation.Flush) return TryStartFlush(ring, out result);
        Memory<byte>[] pieces = t_pieces ??= new Memory<byte>[RingPieces];
        int count = 0;
        foreach (Memory<byte> piece in buffers)
        {
            if (count == RingPieces) return false;
            pieces[count++] = piece;
        }
        ReadOnlySpan<Memory<byte>> all = pieces.AsSpan(0, count);
        if (buffers.Length > int.MaxValue / 2 || !IsAligned(offset, buffers.Length, all)) return false;
        return operation == BlockOperation.Read
            ? TryReadNow(offset, all, buffers.Length) || TryRing(false, offset, all, buffers, ring, out result)
            : TryWriteNow(offset, all, buffers.Length) || TryRing(true, offset, all, buffers, ring, out result);
    }

    bool TryReadNow(long offset, ReadOnlySpan<Memory<byte>> pieces, long length)
    {
        if (_file.IsDirect || !_knowsNoWait && !_file.IsInMemory) return false;
        long done = _file.ReadNow(offset, pieces);
        if (done == length) return true;
        if (done is -Errno.OpNotSupp or -Errno.Inval) _knowsNoWait = false;
        return false;
    }

    bool TryWriteNow(long offset, ReadOnlySpan<Memory<byte>> pieces, long length)
    {
        if (!_file.IsInMemory || _file.IsDirect || _file.Write(offset, pieces) != length) return false;
        GrowTo(offset + length);
        return true;
    }

    bool TryRing(bool isWrite, long offset, ReadOnlySpan<Memory<byte>> pieces, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        if (ring == null) return false;
        LinkedListNode<RangeLock.Hold>? hold = null;
        if (isWrite && _file.IsDirect
            && !_directWrites.TryShare(offset / _alignment, (offset + buffers.Length) / _alignment,
            out hold)) return false;
        if (!ring.TryTransfer(_file, isWrite, offset, pieces, out ValueTask<int> transfer))
        {
            if (hold != null) _directWrites.Release(hold);
            return false;
        }
        result = _transfers.Take().Start(transfer, isWrite, offset, buffers, hold);
        return true;
    }

    bool TryStartFlush(IoRing? ring, out ValueTask result)
    {
        result = default;
        if (_noFlush || IsReadOnly || _file.IsInMemory) return true;
        if (ring == null || !ring.TrySync(_file, out ValueTask<int> sync)) return false;
        result = _transfers.Take().Start(sync);
        return true;
    }

    /// <summary>The end of a transfer by the ring. What that has left undone, at the end of the file above all, a
    /// worker thread does.</summary>
    sealed class Transfer : LoopStep<Transfer>, IThreadPoolWorkItem
    {
        readonly FileDriver _file;
        readonly Action _arrived;
        ValueTaskAwaiter<int> _result;
        string _what = "";
        long _offset;
        ScatterList _buffers;
        LinkedListNode<RangeLock.Hold>? _hold;

        public Transfer(FileDriver file, Pool home) : base(home) => (_file, _arrived) = (file, Arrived);

        public ValueTask Start(ValueTask<int> sync) => Start(sync, "flush", 0, default, null);

        public ValueTask Start(ValueTask<int> transfer, bool isWrite, long offset, ScatterList buffers,
            LinkedListNode<RangeLock.Hold>? hold) =>
            Start(transfer, isWrite ? "write" : "read", offset, buffers, hold);

        ValueTask Start(ValueTask<int> result, string what, long offset, ScatterList buffers,
            LinkedListNode<RangeLock.Hold>? hold)
        {
            (_what, _offset, _buffers, _hold) = (what, offset, buffers, hold);
            ValueTask ended = Begin();
            _result = result.GetAwaiter();
            _result.UnsafeOnCompleted(_arrived);
            return ended;
        }

        void Arrived()
        {
            try
            {
                long done = _file.Check(_result.GetResult(), _what);
                if (done < _buffers.Length) ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
                else Finish(null);
            }
            catch (BlockException e) { Finish(e); }
        }

        void IThreadPoolWorkItem.Execute()
        {
            try
            {
                if (_what == "write") _file.WriteBuffers(_offset, _buffers);
                else _file.ReadBuffers(_offset, _buffers);
                Finish(null);
            }
            catch (BlockException e) { Finish(e); }
        }

        void Finish(BlockException? error)
        {
            if (_what == "write" && error == null) _file.GrowTo(_offset + _buffers.Length);
            if (_hold != null) _file._directWrites.Release(_hold);
            (_buffers, _hold, _result) = (default, null, default);
            End(error);
        }
    }
}
