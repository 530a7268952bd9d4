using System.Buffers;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Images;

/// <summary>An image of blocks, each of which gets a place in the file when it is first written.</summary>
/// <remarks>Tables change in memory, and on disk when the image is flushed: after the data that they refer to, with a
/// flush of the file between. A crash leaves blocks that nothing refers to at worst, and no write costs a
/// flush.</remarks>
public abstract class GrowingImage(BlockDriver file, NodeOptions options) : ImageNode(file, options)
{
    readonly List<(BlockDriver File, long Host)> _givenBack = [];  // places whose first write failed

    /// <summary>The file that a block lies in.</summary>
    private protected virtual BlockDriver FileOf(long block) => File;

    /// <summary>A place for a block that has none, past all that is in use.</summary>
    private protected abstract long Allocate(long block);

    /// <summary>The data are there: the tables in memory refer to them from now on.</summary>
    private protected abstract void Link(long block, long host);

    private protected abstract bool HasDirty { get; }

    /// <summary>Writes what lies beside the data of a new place.</summary>
    private protected virtual ValueTask PrepareAsync(long host) => default;

    /// <summary>What has been written so far reaches the disk.</summary>
    private protected virtual ValueTask FlushFilesAsync() => File.FlushAsync();

    /// <summary>Writes what has to be on disk before a table refers to new places.</summary>
    private protected virtual void WriteCounters() { }

    private protected abstract void WriteTables();

    /// <summary>Before the first change.</summary>
    private protected virtual void PrepareForWriting() { }

    protected sealed override async ValueTask WriteCore(long offset, ScatterList buffers)
    {
        PrepareForWriting();
        LinkedListNode<RangeLock.Hold> hold = await HoldAsync(offset, buffers.Length, exclusive: false)
            .ConfigureAwait(false);
        try
        {
            long done = await WriteInPlaceAsync(offset, buffers).ConfigureAwait(false);
            if (done == buffers.Length) return;
            offset += done;
            buffers = buffers.Slice(done, buffers.Length - done);
        }
        finally { Blocks.Release(hold); }

        hold = await HoldAsync(offset, buffers.Length, exclusive: true).ConfigureAwait(false);
        try
        {
            while (buffers.Length > 0)
            {
                long done = await WriteInPlaceAsync(offset, buffers).ConfigureAwait(false);
                if (done == 0)
                {
                    done = Math.Min(buffers.Length, BlockSize - offset % BlockSize);
                    await WriteNewAsync(offset, buffers.Slice(0, done)).ConfigureAwait(false);
                }
                offset += done;
                buffers = buffers.Slice(done, buffers.Length - done);
            }
        }
        finally { Blocks.Release(hold); }
    }

    /// <summary>Zeros are written where there is something else.</summary>
    protected override async ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap)
    {
        for (long end = offset + length; offset < end;)
        {
            ImageRun run;
            lock (Sync) run = Find(offset, Math.Min(end - offset, BlockSize));
            bool isZero = run.Kind == RunKind.Zero || run.Kind == RunKind.Unallocated
                && (Backing == null || offset >= Backing.Length);
            if (!isZero) await WriteCore(offset, ScatterLists.Zeroes(run.Length)).ConfigureAwait(false);
            offset += run.Length;
        }
    }

    public override async ValueTask FlushAsync()
    {
        lock (Sync) WriteBack();
        await FlushFilesAsync().ConfigureAwait(false);
    }

    protected override ValueTask CloseAsync() => FlushAsync();

    /// <summary>Writes all changes of tables. Under <see cref="ImageNode.Sync"/>.</summary>
    private protected void WriteBack()
    {
        if (IsReadOnly || !HasDirty) return;
        WriteCounters();
        ScatterLists.Wait(FlushFilesAsync());
        WriteTables();
    }

    /// <summary>Writes the leading part that has its place; returns its length.</summary>
    async ValueTask<long> WriteInPlaceAsync(long offset, ScatterList buffers)
    {
        long done = 0;
        while (done < buffers.Length)
        {
            ImageRun run;
            lock (Sync) run = Find(offset + done, buffers.Length - done);
            if (run.Kind != RunKind.Data) break;
            await (run.File ?? File).WriteAsync(run.Host, buffers.Slice(done, run.Length)).ConfigureAwait(false);
            done += run.Length;
        }
        return done;
    }

    /// <summary>Gives a block its place. What surrounds the data comes along, unless it is zeros there
    /// already.</summary>
    private protected virtual async ValueTask WriteNewAsync(long offset, ScatterList data)
    {
        long block = offset / BlockSize, host;
        BlockDriver file = FileOf(block);
        bool isFresh;
        lock (Sync)
        {
            int again = _givenBack.FindLastIndex(place => place.File == file);
            host = again < 0 ? Allocate(block) : _givenBack[again].Host;
            if (again >= 0) _givenBack.RemoveAt(again);
            isFresh = again < 0 && host >= file.Length;            // past the end of the file all is zeros
        }
        int head = (int)(offset - block * BlockSize), tail = BlockSize - head - (int)data.Length;
        if (isFresh && Backing == null) (head, tail) = (0, 0);
        byte[] before = ArrayPool<byte>.Shared.Rent(head), after = ArrayPool<byte>.Shared.Rent(tail);
        bool isWritten = false;
        try
        {
            await ReadOldAsync(offset - head, before.AsMemory(0, head)).ConfigureAwait(false);
            await ReadOldAsync(offset + data.Length, after.AsMemory(0, tail)).ConfigureAwait(false);
            long end = host + BlockSize;
            if (!CanGrow && end > file.Length) throw new BlockException($"{FileName}: there is no room", Errno.NoSpc);
            await PrepareAsync(host).ConfigureAwait(false);
            if (end > file.Length)                                 // the file has to hold all of the block
                await file.WriteAsync(end - 1, new ScatterList(new byte[1])).ConfigureAwait(false);
            await file.WriteAsync(host + (offset - head) % BlockSize,
                ScatterLists.Join(before.AsMemory(0, head), data, after.AsMemory(0, tail))).ConfigureAwait(false);
            isWritten = true;
            lock (Sync) Link(block, host);
        }
        finally
        {
            if (!isWritten) lock (Sync) _givenBack.Add((file, host));
            ArrayPool<byte>.Shared.Return(before);
            ArrayPool<byte>.Shared.Return(after);
        }
    }

    private protected async ValueTask ReadOldAsync(long offset, Memory<byte> buffer)
    {
        int inside = (int)Math.Clamp(Length - offset, 0, buffer.Length);
        if (inside > 0) await ReadMappedAsync(offset, new ScatterList(buffer[..inside])).ConfigureAwait(false);
        buffer.Span[inside..].Clear();
    }
}
