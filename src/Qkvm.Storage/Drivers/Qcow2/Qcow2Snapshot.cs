using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>An entry of the table of internal snapshots. Spec: QEMU docs/interop/qcow2.txt, "Snapshots".</summary>
sealed class Qcow2Snapshot
{
    public const int FixedSize = 40, MaxExtra = 1024;
    const int KnownExtra = 24;                                     // the state's size again, the disk's size, icount

    byte[] _extra = [];
    int _idLength, _nameLength;

    public long L1Offset { get; init; }
    public int L1Entries { get; init; }
    public string Id { get; private set; } = "";
    public string Name { get; private set; } = "";
    public uint Seconds { get; private init; }
    public uint Nanoseconds { get; private init; }
    public ulong VmClock { get; private init; }
    public ulong VmStateSize { get; private set; }

    /// <summary>Bytes of the disk; null of an image of version 2, whose disk never changes its size.</summary>
    public long? DiskSize { get; private set; }
    public ulong? InstructionCount { get; private set; }

    /// <summary>Bytes after the fixed part, without the padding.</summary>
    public int VariableSize => _extra.Length + _idLength + _nameLength;
    public int PaddedSize => (FixedSize + VariableSize + 7) / 8 * 8;

    public static Qcow2Snapshot Of(BlockSnapshot snapshot, string id, long l1Offset, int l1Entries, long diskSize)
    {
        var extra = new byte[KnownExtra];
        BinaryPrimitives.WriteUInt64BigEndian(extra, snapshot.VmStateSize);
        BinaryPrimitives.WriteInt64BigEndian(extra.AsSpan(8), diskSize);
        BinaryPrimitives.WriteUInt64BigEndian(extra.AsSpan(16), snapshot.InstructionCount ?? ulong.MaxValue);
        return new Qcow2Snapshot
        {
            L1Offset = l1Offset, L1Entries = l1Entries, Id = id, Name = snapshot.Name, Seconds = snapshot.Seconds,
            Nanoseconds = snapshot.Nanoseconds, VmClock = snapshot.VmClock, VmStateSize = snapshot.VmStateSize,
            DiskSize = diskSize, InstructionCount = snapshot.InstructionCount, _extra = extra,
            _idLength = Encoding.UTF8.GetByteCount(id), _nameLength = Encoding.UTF8.GetByteCount(snapshot.Name),
        };
    }

    /// <summary>Null where the entry is impossible.</summary>
    public static Qcow2Snapshot? ReadFrom(ReadOnlySpan<byte> data)
    {
        ulong offset = BinaryPrimitives.ReadUInt64BigEndian(data);
        uint entries = BinaryPrimitives.ReadUInt32BigEndian(data[8..]),
            extra = BinaryPrimitives.ReadUInt32BigEndian(data[36..]);
        if (entries > Qcow2Header.MaxL1Bytes / 8 || offset > 1UL << 56 || extra > MaxExtra) return null;
        return new Qcow2Snapshot
        {
            L1Offset = (long)offset,
            L1Entries = (int)entries,
            _idLength = BinaryPrimitives.ReadUInt16BigEndian(data[12..]),
            _nameLength = BinaryPrimitives.ReadUInt16BigEndian(data[14..]),
            Seconds = BinaryPrimitives.ReadUInt32BigEndian(data[16..]),
            Nanoseconds = BinaryPrimitives.ReadUInt32BigEndian(data[20..]),
            VmClock = BinaryPrimitives.ReadUInt64BigEndian(data[24..]),
            VmStateSize = BinaryPrimitives.ReadUInt32BigEndian(data[32..]),
            _extra = new byte[extra],
        };
    }

    public void ReadVariable(ReadOnlySpan<byte> data)
    {
        // a later version's extra data are longer: what they mean is kept with them
        data[.._extra.Length].CopyTo(_extra);
        if (_extra.Length >= 8) VmStateSize = BinaryPrimitives.ReadUInt64BigEndian(_extra);
        if (_extra.Length >= 16) DiskSize = BinaryPrimitives.ReadInt64BigEndian(_extra.AsSpan(8));
        if (_extra.Length >= 24
            && BinaryPrimitives.ReadUInt64BigEndian(_extra.AsSpan(16)) is not ulong.MaxValue and var count)
            InstructionCount = count;
        Id = Encoding.UTF8.GetString(data.Slice(_extra.Length, _idLength));
        Name = Encoding.UTF8.GetString(data.Slice(_extra.Length + _idLength, _nameLength));
    }

    /// <summary>Has what every snapshot of an image of version 3 has.</summary>
    public void Complete(long diskSize)
    {
        if (_extra.Length >= KnownExtra) return;
        Array.Resize(ref _extra, KnownExtra);
        BinaryPrimitives.WriteUInt64BigEndian(_extra, VmStateSize);
        BinaryPrimitives.WriteInt64BigEndian(_extra.AsSpan(8), DiskSize ??= diskSize);
        BinaryPrimitives.WriteUInt64BigEndian(_extra.AsSpan(16), ulong.MaxValue);
    }

    public void WriteTo(Span<byte> data)
    {
        BinaryPrimitives.WriteInt64BigEndian(data, L1Offset);
        BinaryPrimitives.WriteInt32BigEndian(data[8..], L1Entries);
        BinaryPrimitives.WriteUInt16BigEndian(data[12..], (ushort)_idLength);
        BinaryPrimitives.WriteUInt16BigEndian(data[14..], (ushort)_nameLength);
        BinaryPrimitives.WriteUInt32BigEndian(data[16..], Seconds);
        BinaryPrimitives.WriteUInt32BigEndian(data[20..], Nanoseconds);
        BinaryPrimitives.WriteUInt64BigEndian(data[24..], VmClock);
        BinaryPrimitives.WriteUInt32BigEndian(data[32..], (uint)VmStateSize);
        BinaryPrimitives.WriteInt32BigEndian(data[36..], _extra.Length);
        _extra.CopyTo(data[FixedSize..]);
        int at = FixedSize + _extra.Length;
        Encoding.UTF8.TryGetBytes(Id, data.Slice(at, _idLength), out _);
        Encoding.UTF8.TryGetBytes(Name, data.Slice(at + _idLength, _nameLength), out _);
    }
}
