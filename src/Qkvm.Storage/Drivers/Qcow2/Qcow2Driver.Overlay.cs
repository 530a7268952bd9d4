using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>An image over another one: the name of that can change, and all that the image holds can go.</summary>
public sealed partial class Qcow2Driver : IOverlay
{
    const long DroppedAtOnce = 1L << 30;

    /// <inheritdoc/>
    public ValueTask ChangeBackingAsync(string? file, string? format)
    {
        PrepareForWriting();
        lock (_store.Sync)
        {
            if (file != null && Info.Header.IsDataRaw)
                throw new BlockException($"{FileName}: an image whose data file is raw has no backing file",
                    Errno.Inval);
            _store.Flush();
            _store.FlushFile();                                    // what was copied out of the old one comes first
            Info.BackingFile = file;
            Info.Extensions.Set(Qcow2Extension.BackingFormat, format == null ? null : Encoding.UTF8.GetBytes(format));
            RewriteHeader();
        }
        return default;
    }

    /// <inheritdoc/>
    public void SetBacking(BlockDriver? node)
    {
        if (node == Backing) return;
        BlockEdge? before = _backingEdge;
        _backingEdge = node == null ? null : Attach("backing", node, BlockUse.Backing(Use));
        if (before != null) Detach(before);
    }

    /// <inheritdoc/>
    public async ValueTask PullAsync(long offset, long length)
    {
        PrepareForWriting();
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, length, exclusive: true).ConfigureAwait(false);
        try
        {
            for (long end = offset + length; offset < end;)
            {
                Extent extent;
                lock (_store.Sync) extent = _store.Mapping.Find(offset, end - offset);
                if (extent.Kind == ExtentKind.Unallocated && Backing != null)
                {
                    var data = new ScatterList(new byte[extent.Length]);
                    await ReadBackingAsync(offset, data).ConfigureAwait(false);
                    await _writer.WriteAsync(offset, data).ConfigureAwait(false);
                }
                offset += extent.Length;
            }
        }
        finally { _clusters.Release(hold); }
    }

    /// <inheritdoc/>
    public ValueTask WriteLastingZeroesAsync(long offset, long length) =>
        WriteZeroesAsync(offset, length, mayUnmap: true, isLasting: true);

    /// <inheritdoc/>
    public async ValueTask MakeEmptyAsync()
    {
        PrepareForWriting();
        for (long offset = 0, end = Length + _layout.ClusterSize - 1 & -_layout.ClusterSize; offset < end;)
        {
            long length = Math.Min(end - offset, DroppedAtOnce);
            LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, length, exclusive: true)
                .ConfigureAwait(false);
            try
            {
                lock (_store.Sync) _writer.Drop(offset, length);
            }
            finally { _clusters.Release(hold); }
            offset += length;
        }
    }
}
