using System.Buffers;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Reads and writes on worker threads: a scatter list, in batches that the kernel takes.</summary>
public sealed partial class FileDriver
{
    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        ReadBuffers(offset, buffers);
        return default;
    }

    void ReadBuffers(long offset, ScatterList buffers)
    {
        Memory<byte>[] pieces = ArrayPool<Memory<byte>>.Shared.Rent(IoVector.Capacity);
        try
        {
            for (var vector = new IoVector(buffers, pieces);
                vector.Fill(out ReadOnlySpan<Memory<byte>> batch, out long length);
                 offset += length)
                if (IsAligned(offset, length, batch)) ReadAll(offset, batch, length, pieces);
                else ReadBounced(offset, batch);
        }
        finally { ArrayPool<Memory<byte>>.Shared.Return(pieces, clearArray: true); }
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers)
    {
        if (_file.IsDirect) return WriteDirectAsync(offset, buffers);
        WriteBuffers(offset, buffers);
        return default;
    }

    protected override bool HasFua => true;

    /// <summary>By RWF_DSYNC, which on a disk with such a command spares the flush of its cache.</summary>
    protected override ValueTask WriteFuaCore(long offset, ScatterList buffers)
    {
        if (_noFlush) return WriteCore(offset, buffers);
        if (_file.IsDirect) return ThenFlushAsync(WriteDirectAsync(offset, buffers));
        if (!_file.HasDataSync) return ThenFlushAsync(WriteCore(offset, buffers));
        WriteBuffers(offset, buffers, sync: true);
        return default;
    }

    void WriteBuffers(long offset, ScatterList buffers, bool sync = false)
    {
        Memory<byte>[] pieces = ArrayPool<Memory<byte>>.Shared.Rent(IoVector.Capacity);
        try
        {
            for (var vector = new IoVector(buffers, pieces);
                vector.Fill(out ReadOnlySpan<Memory<byte>> batch, out long length);
                 offset += length)
            {
                if (IsAligned(offset, length, batch)) WriteAll(offset, batch, length, pieces, sync);
                else WriteBounced(offset, batch);
                GrowTo(offset + length);
            }
        }
        finally { ArrayPool<Memory<byte>>.Shared.Return(pieces, clearArray: true); }
    }

    /// <summary>Reads until full; what lies past the end of the file is zeros. Uses up the batch.</summary>
    void ReadAll(long offset, ReadOnlySpan<Memory<byte>> batch, long length, Memory<byte>[] pieces)
    {
        while (length > 0)
        {
            long done = Check(_file.Read(offset, batch), "read");
            offset += done;
            length -= done;
            batch = IoVector.Skip(batch, done, pieces);
            if (done != 0 && (!_file.IsDirect || done % _alignment == 0)) continue;
            foreach (Memory<byte> piece in batch) piece.Span.Clear();
            return;
        }
    }

    void WriteAll(long offset, ReadOnlySpan<Memory<byte>> batch, long length, Memory<byte>[] pieces,
        bool sync = false)
    {
        while (length > 0)
        {
            long done = Check(sync ? _file.WriteSync(offset, batch) : _file.Write(offset, batch), "write");
            if (done == 0) throw Failed("write", Errno.NoSpc);
            offset += done;
            length -= done;
            batch = IoVector.Skip(batch, done, pieces);
        }
    }
}
