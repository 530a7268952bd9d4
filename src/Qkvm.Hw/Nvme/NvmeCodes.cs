namespace Qkvm.Hw.Nvme;

/// <summary>Status of a command: type &lt;&lt; 8 | code. NVMe 1.4, section 4.6.1.</summary>
static class NvmeStatus
{
    public const ushort Success = 0, InvalidOpcode = 0x001, InvalidField = 0x002, DataTransferError = 0x004,
        AbortedByDeletion = 0x008, InvalidNamespace = 0x00B, InvalidPrpOffset = 0x013, WriteProtected = 0x020,
        LbaOutOfRange = 0x080, CapacityExceeded = 0x081,
        InvalidCompletionQueue = 0x100, InvalidQueue = 0x101, InvalidQueueSize = 0x102, TooManyEventRequests = 0x105,
        InvalidVector = 0x108, InvalidLogPage = 0x109, InvalidQueueDeletion = 0x10C, NotChangeable = 0x10E,
        WriteFault = 0x280, ReadError = 0x281, CompareFailure = 0x285;

    /// <summary>It would fail again.</summary>
    public const ushort DoNotRetry = 0x4000;
}

/// <summary>Opcodes. NVMe 1.4, chapter 5 and section 6.</summary>
static class NvmeOpcode
{
    public const byte DeleteSubmissionQueue = 0x00, CreateSubmissionQueue = 0x01, GetLogPage = 0x02,
        DeleteCompletionQueue = 0x04, CreateCompletionQueue = 0x05, Identify = 0x06, Abort = 0x08, SetFeatures = 0x09,
        GetFeatures = 0x0A, AsyncEventRequest = 0x0C;

    public const byte Flush = 0x00, Write = 0x01, Read = 0x02, Compare = 0x05, WriteZeroes = 0x08,
        DatasetManagement = 0x09;
}

/// <summary>A submission queue entry. NVMe 1.4, section 4.2.</summary>
readonly ref struct NvmeCommand(ReadOnlySpan<byte> entry)
{
    public const int Length = 64;

    readonly ReadOnlySpan<byte> _entry = entry;

    public byte Opcode => _entry[0];
    public byte Flags => _entry[1];                                // fused operation, and PRP or SGL
    public ushort Id => System.Buffers.Binary.BinaryPrimitives.ReadUInt16LittleEndian(_entry[2..]);
    public uint Namespace => this[1];
    public ulong Prp1 => this[6] | (ulong)this[7] << 32;
    public ulong Prp2 => this[8] | (ulong)this[9] << 32;

    /// <summary>A double word: CDW10 is 10.</summary>
    public uint this[int word] => System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(_entry[(word * 4)..]);
}
