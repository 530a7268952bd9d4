using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>An entry of the table of internal snapshots. Spec: QEMU docs/interop/qcow2.txt, "Snapshots".</summary>
sealed class Qcow2Snapshot
{
    public const int FixedSize = 40, MaxExtra = 1024;

    public long L1Offset { get; private init; }
    public int L1Entries { get; private init; }
    public string Id { get; private set; } = "";
    public string Name { get; private set; } = "";
    public uint Seconds { get; private init; }
    public uint Nanoseconds { get; private init; }
    public ulong VmClock { get; private init; }
    public ulong VmStateSize { get; private set; }
    public ulong? InstructionCount { get; private set; }

    int _idLength, _nameLength;

    /// <summary>Bytes after the fixed part, without the padding.</summary>
    public int VariableSize => ExtraSize + _idLength + _nameLength;
    public int PaddedSize => (FixedSize + VariableSize + 7) / 8 * 8;
    int ExtraSize { get; init; }

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
            ExtraSize = (int)extra,
        };
    }

    public void ReadVariable(ReadOnlySpan<byte> data)
    {
        // a later version's extra data are longer: the state's size again, the disk's size, icount (-1: none)
        if (ExtraSize >= 8) VmStateSize = BinaryPrimitives.ReadUInt64BigEndian(data);
        if (ExtraSize >= 24 && BinaryPrimitives.ReadUInt64BigEndian(data[16..]) is not ulong.MaxValue and var count)
            InstructionCount = count;
        Id = Encoding.UTF8.GetString(data.Slice(ExtraSize, _idLength));
        Name = Encoding.UTF8.GetString(data.Slice(ExtraSize + _idLength, _nameLength));
    }
}
