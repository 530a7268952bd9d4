using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: the kernel reads and writes what it is given during the call, and no longer.
/// <summary>Calls that name a file by a folder's descriptor and a name in it; names are bytes and end in NUL.</summary>
public static unsafe partial class Libc
{
    public const int OAppend = 0x400, ODSync = 0x1000, ODirectory = 0x10000, ONoFollow = 0x20000,
        OSync = 0x101000, OPath = 0x200000;
    public const int SymlinkNoFollow = 0x100, RemoveDir = 0x200, EmptyPath = 0x1000;

    const int OpenAt = 257, OpenAt2 = 437, NewFstatAt = 262, MknodAt = 259, FchmodAt2 = 452, GetDents64 = 217;

    /// <summary>openat2(2)'s RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS and RESOLVE_BENEATH.</summary>
    internal const ulong ResolveBeneath = 2 | 4 | 8;

    internal static int openat(int folder, byte* name, int flags, uint mode) =>
        (int)syscall(OpenAt, folder, (nint)name, flags, (nint)mode, 0, 0);

    /// <remarks>Since Linux 5.6.</remarks>
    internal static int openat2(int folder, byte* path, OpenHow* how) =>
        (int)syscall(OpenAt2, folder, (nint)path, (nint)how, sizeof(OpenHow), 0, 0);

    internal static int fstatat(int folder, byte* name, FileStatus* status, int flags) =>
        (int)syscall(NewFstatAt, folder, (nint)name, (nint)status, flags, 0, 0);

    internal static int mknodat(int folder, byte* name, uint mode, ulong device) =>
        (int)syscall(MknodAt, folder, (nint)name, (nint)mode, (nint)device, 0, 0);

    /// <remarks>Since Linux 6.6.</remarks>
    internal static int fchmodat2(int folder, byte* name, uint mode, int flags) =>
        (int)syscall(FchmodAt2, folder, (nint)name, (nint)mode, flags, 0, 0);

    internal static int getdents64(int folder, byte* entries, int length) =>
        (int)syscall(GetDents64, folder, (nint)entries, length);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int mkdirat(int folder, byte* name, uint mode);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int symlinkat(byte* target, int folder, byte* name);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint readlinkat(int folder, byte* name, byte* target, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int linkat(int folder, byte* name, int newFolder, byte* newName, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int renameat(int folder, byte* name, int newFolder, byte* newName);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int unlinkat(int folder, byte* name, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fchmod(int fd, uint mode);

    [LibraryImport(Library, EntryPoint = "chmod", SetLastError = true)]
    internal static partial int chmodAt(byte* path, uint mode);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fchown(int fd, uint owner, uint group);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fchownat(int folder, byte* name, uint owner, uint group, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int utimensat(int folder, byte* name, Timespec* times, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int futimens(int fd, Timespec* times);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fsync(int fd);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int sync_file_range(int fd, long offset, long length, uint flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint fgetxattr(int fd, byte* name, void* value, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint flistxattr(int fd, byte* names, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fsetxattr(int fd, byte* name, void* value, nuint length, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int fremovexattr(int fd, byte* name);
}

/// <summary>struct open_how.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct OpenHow
{
    public ulong Flags, Mode, Resolve;
}
