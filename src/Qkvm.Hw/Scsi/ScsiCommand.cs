using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Hw.Scsi;

public enum ScsiAction : byte
{
    /// <summary>It is done, and failed or has no data.</summary>
    None,
    /// <summary>The answer is asked for by <see cref="ScsiDisk.Answer"/>.</summary>
    Answer,
    /// <summary>Parameters come first, and then <see cref="ScsiDisk.Obey"/>.</summary>
    Parameters,
    /// <summary>The transport moves data between the medium and the initiator.</summary>
    Read, Write,
    /// <summary>The transport has the medium carry it out, without data.</summary>
    Flush, Verify,
}

/// <summary>What a command block asks for, once the disk has looked at it.</summary>
/// <param name="Length">Bytes that go between medium, or disk, and initiator.</param>
/// <param name="Offset">Of the medium, in bytes.</param>
/// <param name="Fua">A write is on stable storage before it ends.</param>
public readonly record struct ScsiCommand(ScsiAction Action, ScsiStatus Status, long Length = 0, long Offset = 0,
    bool Fua = false)
{
    public bool IsToHost => Action is ScsiAction.Answer or ScsiAction.Read;
    public bool IsToDisk => Action is ScsiAction.Parameters or ScsiAction.Write;

    public BlockOperation Operation => Action switch
    {
        ScsiAction.Read => BlockOperation.Read,
        ScsiAction.Write => BlockOperation.Write,
        _ => BlockOperation.Flush,
    };
}

/// <summary>Fields of command descriptor blocks. SPC-4, section 4.2.2.</summary>
static class ScsiCdb
{
    public const int MaxLength = 16;

    /// <summary>By the operation code's group; 0: of vendors or of variable length, which nobody here has.</summary>
    public static int LengthOf(byte opcode) =>
        (opcode >> 5) switch { 0 => 6, 1 or 2 => 10, 4 => 16, 5 => 12, _ => 0 };

    /// <summary>First block and number of blocks of a command that reads, writes or verifies: SBC-3, chapter
    /// 5.</summary>
    public static (ulong Block, ulong Count) Range(ReadOnlySpan<byte> cdb) => (cdb[0] >> 5) switch
    {
        0 => (BinaryPrimitives.ReadUInt32BigEndian(cdb) & 0x1FFFFF, cdb[4] == 0 ? 256u : cdb[4]),
        4 => (BinaryPrimitives.ReadUInt64BigEndian(cdb[2..]), BinaryPrimitives.ReadUInt32BigEndian(cdb[10..])),
        5 => (BinaryPrimitives.ReadUInt32BigEndian(cdb[2..]), BinaryPrimitives.ReadUInt32BigEndian(cdb[6..])),
        _ => (BinaryPrimitives.ReadUInt32BigEndian(cdb[2..]), BinaryPrimitives.ReadUInt16BigEndian(cdb[7..])),
    };

    /// <summary>How much the initiator has room for, or parameters.</summary>
    public static uint AllocationLength(ReadOnlySpan<byte> cdb) => (cdb[0] >> 5) switch
    {
        0 => cdb[0] == 0x12 ? BinaryPrimitives.ReadUInt16BigEndian(cdb[3..]) : cdb[4],
        4 => BinaryPrimitives.ReadUInt32BigEndian(cdb[10..]),
        5 => BinaryPrimitives.ReadUInt32BigEndian(cdb[6..]),
        _ => BinaryPrimitives.ReadUInt16BigEndian(cdb[7..]),
    };
}
