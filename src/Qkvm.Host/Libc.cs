using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: declarations alone: who calls says what keeps its pointers valid.
/// <summary>The C library calls that the BCL lacks. Each returns -1 and sets errno on failure, as in section 2 of the
/// man pages.</summary>
public static unsafe partial class Libc
{
    const string Library = "libc";

    public const int ProtNone = 0, ProtRead = 1, ProtWrite = 2, ProtExec = 4;
    public const int MapShared = 1, MapPrivate = 2, MapFixed = 0x10, MapAnonymous = 0x20, MapNoReserve = 0x4000;
    public const uint MfdCloexec = 1;
    public const int EIntr = 4, ENxio = 6, EAgain = 11, EInval = 22, EPipe = 32, ENameTooLong = 36, EAddrInUse = 98,
        EAddrNotAvail = 99, ENetUnreach = 101, EConnReset = 104, ETimedOut = 110, EConnRefused = 111,
        EHostUnreach = 113, EInProgress = 115;

    public static int Errno => Marshal.GetLastPInvokeError();

    /// <summary>The host's text for an errno, as strerror gives it: "No such file or directory".</summary>
    public static string Message(int errno) => Marshal.GetPInvokeErrorMessage(errno);

    [LibraryImport(Library, SetLastError = true)]
    public static partial void* mmap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int clock_gettime(int clock, Timespec* time);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int munmap(void* address, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int mprotect(void* address, nuint length, int protection);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int madvise(void* address, nuint length, int advice);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ftruncate(int fd, long length);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int open(string path, int flags, int mode);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int prctl(int option, nuint argument, nuint third, nuint fourth, nuint fifth);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int close(int fd);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint read(int fd, void* buffer, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint write(int fd, void* buffer, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int eventfd(uint initial, int flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int poll(PollFd* descriptors, nuint count, int milliseconds);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ppoll(PollFd* descriptors, nuint count, Timespec* timeout, void* mask);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int epoll_create1(int flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int epoll_ctl(int epoll, int operation, int fd, EpollEvent* change);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int epoll_wait(int epoll, EpollEvent* events, int capacity, int milliseconds);
}

/// <summary>struct pollfd.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct PollFd
{
    public int Fd;
    public short Events, Occurred;
}

/// <summary>struct epoll_event; packed on x86-64.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct EpollEvent
{
    public uint Events;
    public ulong Data;
}

/// <summary>struct timespec on x86-64.</summary>
public struct Timespec
{
    public long Seconds;
    public long Nanoseconds;
}
