using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Drivers.Vhdx;

/// <summary>The log through which all changes of tables go. [MS-VHDX] 2.3.</summary>
/// <remarks>Each entry of ours begins at the start of the log and is a sequence of its own: whatever the one before
/// said is on disk by then.</remarks>
sealed class VhdxLog(BlockDriver file, long offset, int length)
{
    const int Sector = VhdxFormat.SectorSize, HeaderSize = 64, DescriptorSize = 32, DataOverhead = 12;

    /// <summary>Pages that one entry takes: its descriptors fill one sector with the header.</summary>
    public int MaxPages => Math.Min((Sector - HeaderSize) / DescriptorSize, length / Sector - 1);

    readonly Dictionary<int, Entry?> _known = [];                  // places that were looked at
    ulong _sequence = 1;
    long _budget = 8L * length;                                    // bytes of entries: honest ones hardly overlap

    /// <summary>Applies what a crash left, if anything.</summary>
    /// <param name="id">The log's, from the header: entries of others are old.</param>
    /// <param name="apply">False: only looks.</param>
    /// <returns>False where the log holds nothing valid.</returns>
    public bool Replay(Guid id, bool apply)
    {
        var log = new byte[length];
        ScatterLists.Wait(file.ReadAsync(offset, new ScatterList(log)));
        List<int>? best = null;
        for (int start = 0; start < length; start += Sector)
        {
            if (ReadEntry(log, start, id) is not { } first || first.Sequence < _sequence) continue;
            if (Sequence(log, start, id) is not { } entries) continue;
            _sequence = ReadEntry(log, entries[^1], id)!.Value.Sequence;
            best = entries;
        }
        if (best == null) return false;
        if (!apply) return true;
        foreach (int entry in best) Apply(log, entry);
        ScatterLists.Wait(file.FlushAsync());
        _sequence++;
        return true;
    }

    /// <summary>Logs pages, then writes them where they belong. What they refer to is on disk.</summary>
    /// <param name="id">The log's.</param>
    public void Write(Guid id, ReadOnlySpan<ClusterTable> pages, long fileLength)
    {
        var entry = new byte[(1 + pages.Length) * Sector];
        "loge"u8.CopyTo(entry);
        Put32(8, (uint)entry.Length);
        Put64(16, ++_sequence);
        Put32(24, (uint)pages.Length);
        id.TryWriteBytes(entry.AsSpan(32));
        Put64(48, (ulong)fileLength);
        Put64(56, (ulong)fileLength);
        for (int i = 0; i < pages.Length; i++)
        {
            ReadOnlySpan<byte> page = pages[i].Data;
            int at = HeaderSize + i * DescriptorSize, data = (1 + i) * Sector;
            "desc"u8.CopyTo(entry.AsSpan(at));
            page[^4..].CopyTo(entry.AsSpan(at + 4));               // what the sequence number stands in place of
            page[..8].CopyTo(entry.AsSpan(at + 8));
            Put64(at + 16, (ulong)pages[i].Offset);
            Put64(at + 24, _sequence);
            "data"u8.CopyTo(entry.AsSpan(data));
            Put32(data + 4, (uint)(_sequence >> 32));
            page[8..^4].CopyTo(entry.AsSpan(data + 8));
            Put32(data + Sector - 4, (uint)_sequence);
        }
        VhdxFormat.Seal(entry);
        ScatterLists.Wait(file.WriteAsync(offset, new ScatterList(entry)));
        ScatterLists.Wait(file.FlushAsync());

        void Put32(int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(at), value);
        void Put64(int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(at), value);
    }

    /// <summary>Entries from the tail that one names to its head, each with the next number; null where one is
    /// missing.</summary>
    List<int>? Sequence(byte[] log, int head, Guid id)
    {
        Entry last = ReadEntry(log, head, id)!.Value;
        var entries = new List<int>();
        int at = last.Tail;
        ulong expected = 0;
        while (entries.Count <= length / Sector)
        {
            if (ReadEntry(log, at, id) is not { } entry || (entries.Count > 0 && entry.Sequence != expected))
                return null;
            entries.Add(at);
            if (at == head) return entries;
            expected = entry.Sequence + 1;
            at = (at + entry.Length) % length;
        }
        return null;
    }

    /// <summary>A valid entry at a place; null for none.</summary>
    Entry? ReadEntry(byte[] log, int at, Guid id)
    {
        if (!_known.TryGetValue(at, out Entry? entry)) _known[at] = entry = Examine(log, at, id);
        return entry;
    }

    Entry? Examine(byte[] log, int at, Guid id)
    {
        ReadOnlySpan<byte> head = log.AsSpan(at, HeaderSize);
        if (!VhdxFormat.Is(head, "loge"u8) || new Guid(head.Slice(32, 16)) != id) return null;
        uint bytes = BinaryPrimitives.ReadUInt32LittleEndian(head[8..]),
            tail = BinaryPrimitives.ReadUInt32LittleEndian(head[12..]),
            count = BinaryPrimitives.ReadUInt32LittleEndian(head[24..]);
        ulong sequence = BinaryPrimitives.ReadUInt64LittleEndian(head[16..]);
        if (bytes == 0 || bytes % Sector != 0 || bytes > length || tail % Sector != 0 || tail >= length
            || count > bytes / DescriptorSize || sequence == 0) return null;
        if ((_budget -= bytes) < 0) throw new BlockException("its log has too many entries", Errno.Io);
        byte[] whole = Cut(log, at, (int)bytes);
        if (!VhdxFormat.IsSealed(whole)) return null;
        int descriptors = (HeaderSize + (int)count * DescriptorSize + Sector - 1) / Sector, data = 0;
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> descriptor = whole.AsSpan(HeaderSize + i * DescriptorSize, DescriptorSize);
            if (BinaryPrimitives.ReadUInt64LittleEndian(descriptor[24..]) != sequence) return null;
            if (VhdxFormat.Is(descriptor, "desc"u8))
            {
                int sector = (descriptors + data++) * Sector;
                if (sector + Sector > whole.Length || !VhdxFormat.Is(whole.AsSpan(sector), "data"u8)
                    || BinaryPrimitives.ReadUInt32LittleEndian(whole.AsSpan(sector + 4)) != (uint)(sequence >> 32)
                    || BinaryPrimitives.ReadUInt32LittleEndian(whole.AsSpan(sector + Sector - 4)) != (uint)sequence)
                    return null;
            }
            else if (!VhdxFormat.Is(descriptor, "zero"u8)) return null;
        }
        return new Entry(sequence, (int)bytes, (int)tail, (int)count, descriptors);
    }

    void Apply(byte[] log, int at)
    {
        byte[] whole = Cut(log, at, (int)BinaryPrimitives.ReadUInt32LittleEndian(log.AsSpan(at + 8)));
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(whole.AsSpan(24));
        long end = (long)BinaryPrimitives.ReadUInt64LittleEndian(whole.AsSpan(56));
        int data = (HeaderSize + (int)count * DescriptorSize + Sector - 1) / Sector * Sector;
        for (int i = 0; i < count; i++)
        {
            Span<byte> descriptor = whole.AsSpan(HeaderSize + i * DescriptorSize, DescriptorSize);
            ulong target = BinaryPrimitives.ReadUInt64LittleEndian(descriptor[16..]);
            if (target % Sector != 0 || target > 1UL << 60) throw Damaged();
            if (VhdxFormat.Is(descriptor, "zero"u8))
            {
                ulong zeroes = BinaryPrimitives.ReadUInt64LittleEndian(descriptor[8..]);
                // what lies past the end of the file is zeros in any case
                long bytes = (long)Math.Min(zeroes, (ulong)Math.Max(0, file.Length - (long)target));
                if (bytes > 0) ScatterLists.Wait(file.WriteZeroesAsync((long)target, bytes, mayUnmap: false));
                continue;
            }
            byte[] page = whole[data..(data + Sector)];
            descriptor.Slice(8, 8).CopyTo(page);
            descriptor.Slice(4, 4).CopyTo(page.AsSpan(Sector - 4));
            ScatterLists.Wait(file.WriteAsync((long)target, new ScatterList(page)));
            data += Sector;
        }
        if (end is > 0 and < 1L << 60 && end > file.Length)
            ScatterLists.Wait(file.WriteAsync(end - 1, new ScatterList(new byte[1])));
    }

    BlockException Damaged() => new("the log has an entry for an impossible place", Errno.Io);

    /// <summary>Bytes of the log, which goes on at its start.</summary>
    static byte[] Cut(byte[] log, int at, int bytes)
    {
        int first = Math.Min(bytes, log.Length - at);
        return [.. log.AsSpan(at, first), .. log.AsSpan(0, bytes - first)];
    }

    readonly record struct Entry(ulong Sequence, int Length, int Tail, int Descriptors, int DescriptorSectors);
}
