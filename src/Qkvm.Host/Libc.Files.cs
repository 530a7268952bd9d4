using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: the kernel reads and writes what it is given during the call, and no longer.
/// <summary>Positional file I/O, locks and device sizes.</summary>
public static unsafe partial class Libc
{
    public const int ORdOnly = 0, OWrOnly = 1, ORdWr = 2, OAccMode = 3, OCreat = 0x40, OExcl = 0x80, OTrunc = 0x200,
        ONonBlock = 0x800, ODirect = 0x4000, OCloexec = 0x80000;
    public const int SeekEnd = 2, SeekData = 3, SeekHole = 4;
    public const int FallocKeepSize = 1, FallocPunchHole = 2, FallocZeroRange = 0x10;
    public const int FOfdGetLk = 36, FOfdSetLk = 37;
    public const short FRdLck = 0, FWrLck = 1, FUnlck = 2;
    public const ulong BlkGetSize64 = 0x80081272, BlkSszGet = 0x1268, BlkDiscard = 0x1277, BlkZeroOut = 0x127F;
    public const ulong CloneRange = 0x4020940D;
    public const int IovMax = 1024;

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    public static partial int chmod(string path, UnixFileMode mode);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int unlink(string path);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint preadv(int fd, Iovec* pieces, int count, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint pwritev(int fd, Iovec* pieces, int count, long offset);

    /// <summary>RWF_NOWAIT: only what is there at once.</summary>
    public const int NoWait = 8;

    /// <summary>RWF_DSYNC: as after fdatasync, of what is written.</summary>
    public const int DataSync = 2;
    public const long TmpFs = 0x01021994, RamFs = 0x858458F6, HugeTlbFs = 0x958458F6;

    /// <summary>A file system that asks no other machine or process: one of those above, ext, XFS, Btrfs, F2FS,
    /// OverlayFS or ZFS. statfs(2), f_type.</summary>
    public static bool IsNear(long type) => type is TmpFs or RamFs or HugeTlbFs or 0xEF53 or 0x58465342 or 0x9123683E
        or 0xF2F52010 or 0x794C7630 or 0x2FC12FC1;

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fstatfs(int fd, FileSystemStatus* status);

    /// <summary>From a file's page cache into a socket without a copy. sendfile(2).</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial nint sendfile(int to, int from, long* offset, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fdatasync(int fd);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fallocate(int fd, int mode, long offset, long length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial long lseek(int fd, long offset, int whence);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fcntl(int fd, int command, Flock* range);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ioctl(int fd, ulong request, void* argument);
}

/// <summary>struct iovec.</summary>
public unsafe struct Iovec
{
    public void* Base;
    public nuint Length;
}

/// <summary>struct statfs on x86-64: what is used of it.</summary>
[StructLayout(LayoutKind.Explicit, Size = 120)]
public struct FileSystemStatus
{
    [FieldOffset(0)] public long Type;
    [FieldOffset(8)] public long BlockSize;
    [FieldOffset(16)] public ulong Blocks;
    [FieldOffset(24)] public ulong Free;
    [FieldOffset(32)] public ulong Available;
    [FieldOffset(40)] public ulong Files;
    [FieldOffset(48)] public ulong FreeFiles;
    [FieldOffset(56)] public ulong Id;
    [FieldOffset(64)] public long NameLength;
}

/// <summary>struct flock on x86-64.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
public struct Flock
{
    [FieldOffset(0)] public short Type;
    [FieldOffset(2)] public short Whence;
    [FieldOffset(8)] public long Start;
    [FieldOffset(16)] public long Length;
    [FieldOffset(24)] public int Pid;
}

/// <summary>struct stat on x86-64: what is used of it.</summary>
[StructLayout(LayoutKind.Explicit, Size = 144)]
public struct FileStatus
{
    const uint TypeMask = 0xF000, Directory = 0x4000, Block = 0x6000, Character = 0x2000, Regular = 0x8000,
        Link = 0xA000;

    [FieldOffset(0)] public ulong Device;
    [FieldOffset(8)] public ulong Inode;
    [FieldOffset(16)] public ulong Links;
    [FieldOffset(24)] public uint Mode;
    [FieldOffset(28)] public uint Owner;
    [FieldOffset(32)] public uint Group;
    [FieldOffset(40)] public ulong SpecialDevice;
    [FieldOffset(48)] public long Size;
    [FieldOffset(56)] public long BlockSize;
    [FieldOffset(64)] public long Blocks512;
    [FieldOffset(72)] public Timespec Accessed;
    [FieldOffset(88)] public Timespec Modified;
    [FieldOffset(104)] public Timespec Changed;

    public readonly bool IsDirectory => (Mode & TypeMask) == Directory;
    public readonly bool IsBlockDevice => (Mode & TypeMask) == Block;
    public readonly bool IsCharacterDevice => (Mode & TypeMask) == Character;
    public readonly bool IsRegularFile => (Mode & TypeMask) == Regular;
    public readonly bool IsLink => (Mode & TypeMask) == Link;
    public readonly uint Permissions => Mode & 0xFFF;
}
