using System.Runtime.CompilerServices;
using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Requests on a loop: whose L2 table is in memory, and that lie together in the file. All else waits for
/// metadata, and is left
/// to worker threads.</summary>
public sealed partial class Qcow2Driver
{
    readonly LoopStep<Release>.Pool _releases;

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        bool isWrite = operation == BlockOperation.Write;
        if (_store.IsEncrypted || operation == BlockOperation.Flush
            || !_clusters.TryShare(offset >> _layout.ClusterBits,
                ((offset + buffers.Length - 1) >> _layout.ClusterBits) + 1, out LinkedListNode<RangeLock.Hold>? hold))
            return false;
        if (isWrite) MarkDirty(offset, buffers.Length);
        bool isStarted = false;
        try
        {
            isStarted = TryFind(offset, buffers.Length, isWrite, out Extent extent) && (isWrite
                ? _store.Data.TryStart(BlockOperation.Write, extent.HostOffset, buffers, ring, out result)
                : TryRead(extent, offset, buffers, ring, out result));
        }
        finally
        {
            if (!isStarted || result.IsCompleted) _clusters.Release(hold);
        }
        if (isStarted && !result.IsCompleted) result = _releases.Take().Start(result, hold);
        return isStarted;
    }

    /// <summary>False where the range is of several kinds or places, or only the file could tell; for a write also
    /// where it needs room.</summary>
    bool TryFind(long offset, long length, bool isWrite, out Extent extent)
    {
        extent = default;
        if (!_store.Sync.TryEnter()) return false;                 // its holder may wait for the file
        try
        {
            if (!_store.Mapping.IsLoaded(offset)) return false;
            extent = _store.Mapping.Find(offset, length);
            if (extent.Length != length) return false;
            return !isWrite || extent.Kind == ExtentKind.Data && extent.Entry.IsCopied && !_store.IsCorrupt
                && (_store.HasDataFile || !_store.Map.Overlaps(extent.HostOffset, length));
        }
        finally { _store.Sync.Exit(); }
    }

    bool TryRead(Extent extent, long offset, ScatterList buffers, IoRing? ring, out ValueTask result)
    {
        result = default;
        switch (extent.Kind)
        {
            case ExtentKind.Data:
                return _store.Data.TryStart(BlockOperation.Read, extent.HostOffset, buffers, ring, out result);
            case ExtentKind.Zero:
            case ExtentKind.Unallocated when Backing == null:
                buffers.Clear();
                return true;
            case ExtentKind.Unallocated:
                return offset + buffers.Length <= Backing!.Length
                    && Backing.TryStart(BlockOperation.Read, offset, buffers, ring, out result);
            default: return false;
        }
    }

    /// <summary>Lets go of the clusters of a request that has completed.</summary>
    sealed class Release : LoopStep<Release>
    {
        readonly RangeLock _clusters;
        readonly Action _arrived;
        ValueTaskAwaiter _done;
        LinkedListNode<RangeLock.Hold>? _hold;

        public Release(RangeLock clusters, Pool home) : base(home) => (_clusters, _arrived) = (clusters, Arrived);

        public ValueTask Start(ValueTask done, LinkedListNode<RangeLock.Hold> hold)
        {
            _hold = hold;
            ValueTask ended = Begin();
            _done = done.GetAwaiter();
            _done.UnsafeOnCompleted(_arrived);
            return ended;
        }

        void Arrived()
        {
            Exception? error = null;
            try { _done.GetResult(); }
            catch (BlockException e) { error = e; }
            _clusters.Release(_hold!);
            (_hold, _done) = (null, default);
            End(error);
        }
    }
}
