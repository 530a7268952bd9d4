using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: the kernel reads and writes what it is given during the call, and no longer.
/// <summary>System calls whose functions glibc 2.17 lacks, by their numbers on x86-64. They return what the functions
/// do.</summary>
public static unsafe partial class Libc
{
    const int Stat = 4, Fstat = 5, GetTid = 186, TgKill = 234, MBind = 237, SecComp = 317, GetRandom = 318,
        MemfdCreate = 319, CopyFileRange = 326, PReadV2 = 327, PWriteV2 = 328, IoUringSetup = 425, IoUringEnter = 426;

    public static int stat(string path, FileStatus* status) => (int)syscall(Stat, path, (nint)status, 0);

    public static int fstat(int fd, FileStatus* status) => (int)syscall(Fstat, fd, (nint)status, 0);

    public static int gettid() => (int)syscall(GetTid, 0, 0, 0);

    public static int tgkill(int process, int thread, int signal) => (int)syscall(TgKill, process, thread, signal);

    /// <remarks>Kernels without CONFIG_NUMA have none.</remarks>
    internal static int mbind(void* start, nuint length, int mode, ulong* nodes, nuint nodeBits, uint flags) =>
        (int)syscall(MBind, (nint)start, (nint)length, mode, (nint)nodes, (nint)nodeBits, (nint)flags);

    /// <remarks>Since Linux 3.17.</remarks>
    internal static int seccomp(int operation, uint flags, void* argument) =>
        (int)syscall(SecComp, operation, (nint)flags, (nint)argument);

    /// <remarks>Since Linux 3.17.</remarks>
    public static nint getrandom(void* buffer, nuint length, uint flags) =>
        syscall(GetRandom, (nint)buffer, (nint)length, (nint)flags);

    /// <remarks>Since Linux 3.17.</remarks>
    public static int memfd_create(string name, uint flags) => (int)syscall(MemfdCreate, name, (nint)flags, 0);

    /// <remarks>Since Linux 4.5.</remarks>
    public static nint copy_file_range(int from, long* fromOffset, int to, long* toOffset, nuint length, uint flags) =>
        syscall(CopyFileRange, from, (nint)fromOffset, to, (nint)toOffset, (nint)length, (nint)flags);

    /// <remarks>Since Linux 4.6; flags since 4.14.</remarks>
    public static nint preadv2(int fd, Iovec* pieces, int count, long offset, int flags) =>
        syscall(PReadV2, fd, (nint)pieces, count, (nint)offset, 0, flags);

    /// <remarks>Since Linux 4.6; RWF_DSYNC since 4.7.</remarks>
    public static nint pwritev2(int fd, Iovec* pieces, int count, long offset, int flags) =>
        syscall(PWriteV2, fd, (nint)pieces, count, (nint)offset, 0, flags);

    /// <remarks>Since Linux 5.1, as is the next. io_uring_setup(2).</remarks>
    internal static int io_uring_setup(uint entries, RingParameters* parameters) =>
        (int)syscall(IoUringSetup, (nint)entries, (nint)parameters, 0);

    /// <remarks>io_uring_enter(2), without a signal mask.</remarks>
    internal static int io_uring_enter(int ring, uint submit, uint wait, uint flags) =>
        (int)syscall(IoUringEnter, ring, (nint)submit, (nint)wait, (nint)flags, 0, 0);

    [LibraryImport(Library, SetLastError = true)]
    private static partial nint syscall(nint number, nint first, nint second, nint third);

    [LibraryImport(Library, SetLastError = true)]
    private static partial nint syscall(nint number, nint first, nint second, nint third, nint fourth, nint fifth,
        nint sixth);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint syscall(nint number, string first, nint second, nint third);
}
