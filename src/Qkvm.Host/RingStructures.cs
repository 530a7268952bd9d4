using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: structures of the kernel's; the fixed array lies inside its structure.
/// <summary>struct io_uring_params of linux/io_uring.h.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct RingParameters
{
    public uint SqEntries, CqEntries, Flags, SqThreadCpu, SqThreadIdle, Features, WqFd;
    // SAFETY: part of the structure, which nobody indexes; here for its size alone.
    public fixed uint Reserved[3];
    public uint SqHead, SqTail, SqMask, SqRingEntries, SqFlags, SqDropped, SqArray, SqReserved;
    public ulong SqUserAddress;
    public uint CqHead, CqTail, CqMask, CqRingEntries, CqOverflow, CqCqes, CqFlags, CqReserved;
    public ulong CqUserAddress;
}

/// <summary>struct io_uring_sqe: what is used of it.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
struct RingSubmission
{
    public const byte ReadVector = 1, WriteVector = 2, Sync = 3;
    public const uint SyncData = 1;

    [FieldOffset(0)] public byte Operation;
    [FieldOffset(4)] public int Fd;
    [FieldOffset(8)] public ulong Offset;
    [FieldOffset(16)] public ulong Address;
    [FieldOffset(24)] public uint Length;
    [FieldOffset(28)] public uint OperationFlags;
    [FieldOffset(32)] public ulong UserData;
}

/// <summary>struct io_uring_cqe.</summary>
[StructLayout(LayoutKind.Sequential)]
struct RingCompletion
{
    public ulong UserData;
    public int Result;
    public uint Flags;
}
