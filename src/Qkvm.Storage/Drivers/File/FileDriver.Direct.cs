using System.Collections.Concurrent;
using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>O_DIRECT: what does not lie on whole sectors passes a buffer that does.</summary>
public sealed partial class FileDriver
{
    const int BounceSize = 1 << 20;

    /// <summary>Writes that only partly fill a sector read it first, so nobody else may change it meanwhile.</summary>
    async ValueTask WriteDirectAsync(long offset, ScatterList buffers)
    {
        bool isPartial = (offset | buffers.Length) % _alignment != 0;
        long start = offset / _alignment, end = (offset + buffers.Length + _alignment - 1) / _alignment;
        LinkedListNode<RangeLock.Hold> hold = await _directWrites.AcquireAsync(start, end, isPartial)
            .ConfigureAwait(false);
        try { WriteBuffers(offset, buffers); }
        finally { _directWrites.Release(hold); }
    }

    bool IsAligned(long offset, long length, ReadOnlySpan<Memory<byte>> batch) =>
        !_file.IsDirect || ((offset | length) % _alignment == 0 && HostFile.IsAligned(batch, _alignment));

    void ReadBounced(long offset, ReadOnlySpan<Memory<byte>> batch)
    {
        using Bounce bounce = RentBounce();
        foreach (Memory<byte> piece in batch)
            for (Memory<byte> rest = piece; rest.Length > 0;)
            {
                int skip = (int)(offset % _alignment), count = Math.Min(rest.Length, BounceSize - skip);
                ReadSectors(offset - skip, bounce.Memory[..RoundUp(skip + count)]);
                bounce.Memory.Slice(skip, count).CopyTo(rest);
                rest = rest[count..];
                offset += count;
            }
    }

    void WriteBounced(long offset, ReadOnlySpan<Memory<byte>> batch)
    {
        using Bounce bounce = RentBounce();
        foreach (Memory<byte> piece in batch)
            for (Memory<byte> rest = piece; rest.Length > 0;)
            {
                int skip = (int)(offset % _alignment), count = Math.Min(rest.Length, BounceSize - skip);
                Memory<byte> sectors = bounce.Memory[..RoundUp(skip + count)];
                if (sectors.Length != count) ReadSectors(offset - skip, sectors);
                rest[..count].CopyTo(sectors[skip..]);
                Memory<byte>[] one = [sectors];
                WriteAll(offset - skip, one, sectors.Length, one);
                GrowTo(offset - skip + sectors.Length);
                rest = rest[count..];
                offset += count;
            }
    }

    void ReadSectors(long offset, Memory<byte> sectors)
    {
        Memory<byte>[] one = [sectors];
        ReadAll(offset, one, sectors.Length, one);
    }

    int RoundUp(int length) => (length + _alignment - 1) / _alignment * _alignment;

    Bounce RentBounce() =>
        new(_bounce, _bounce.TryTake(out AlignedBuffer? buffer) ? buffer : new AlignedBuffer(BounceSize, 4096));

    /// <summary>The smallest sector that O_DIRECT takes here, found by trying.</summary>
    int ProbeAlignment()
    {
        if (_file.SectorSize() is > 0 and int sector) return sector;
        using Bounce bounce = RentBounce();
        for (int size = 512; size < 4096; size *= 2)
            if (_file.Read(0, [bounce.Memory[..size]]) >= 0) return size;
        return 4096;
    }

    readonly struct Bounce(ConcurrentBag<AlignedBuffer> pool, AlignedBuffer buffer) : IDisposable
    {
        public Memory<byte> Memory => buffer.Memory;
        public void Dispose() => pool.Add(buffer);
    }
}
