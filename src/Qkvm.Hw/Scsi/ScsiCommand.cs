using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Hw.Scsi;

public enum ScsiAction : byte
{
    /// <summary>It is done, and failed or has no data.</summary>
    None,
    /// <summary>The answer is asked for by <see cref="ScsiUnit.Answer"/>.</summary>
    Answer,
    /// <summary>Parameters come first, and then <see cref="ScsiUnit.Obey"/>.</summary>
    Parameters,
    /// <summary>The transport moves data between the medium and the initiator.</summary>
    Read, Write,
    /// <summary>The transport has the medium carry it out, without data.</summary>
    Flush, Verify,
}

/// <summary>What a command block asks for, once the unit has looked at it.</summary>
/// <param name="Length">Bytes that go between medium, or unit, and initiator.</param>
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

/// <summary>Operation codes. SPC-4 table 132, SBC-3 table 12, MMC-6 table 239.</summary>
static class ScsiOpcode
{
    public const byte TestUnitReady = 0x00, RequestSense = 0x03, FormatUnit = 0x04, Read6 = 0x08, Write6 = 0x0A,
        Inquiry = 0x12, ModeSelect6 = 0x15, Reserve6 = 0x16, Release6 = 0x17, ModeSense6 = 0x1A, StartStopUnit = 0x1B,
        PreventAllow = 0x1E, ReadCapacity10 = 0x25, Read10 = 0x28, Write10 = 0x2A, Seek10 = 0x2B, WriteAndVerify10 =
        0x2E, Verify10 = 0x2F, SynchronizeCache10 = 0x35, WriteSame10 = 0x41, Unmap = 0x42, ReadToc = 0x43,
        GetConfiguration = 0x46, GetEventStatus = 0x4A, ReadDiscInformation = 0x51, ModeSelect10 = 0x55, Reserve10 =
        0x56, Release10 = 0x57, ModeSense10 = 0x5A, Read16 = 0x88, Write16 = 0x8A, WriteAndVerify16 = 0x8E, Verify16 =
        0x8F, SynchronizeCache16 = 0x91, WriteSame16 = 0x93, ServiceActionIn16 = 0x9E, ReportLuns = 0xA0, Read12 =
        0xA8, Write12 = 0xAA, ReadDvdStructure = 0xAD, WriteAndVerify12 = 0xAE, Verify12 = 0xAF, SetCdSpeed = 0xBB,
        MechanismStatus = 0xBD;
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
        0 => cdb[0] == ScsiOpcode.Inquiry ? BinaryPrimitives.ReadUInt16BigEndian(cdb[3..]) : cdb[4],
        4 => BinaryPrimitives.ReadUInt32BigEndian(cdb[10..]),
        5 when cdb[0] is ScsiOpcode.ReadDvdStructure or ScsiOpcode.MechanismStatus =>
            BinaryPrimitives.ReadUInt16BigEndian(cdb[8..]),
        5 => BinaryPrimitives.ReadUInt32BigEndian(cdb[6..]),
        _ => BinaryPrimitives.ReadUInt16BigEndian(cdb[7..]),
    };
}
