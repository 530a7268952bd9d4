using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: the kernel reads and writes what it is given during the call, and no longer.
public static unsafe partial class Libc
{
    [LibraryImport(Library, SetLastError = true)]
    public static partial int ioctl(int fd, ulong request, nint argument);

    [LibraryImport(Library)]
    public static partial int getpid();

    [LibraryImport(Library, SetLastError = true)]
    public static partial int sigaction(int signal, SignalAction* action, SignalAction* old);
}

/// <summary>glibc's struct sigaction on x86-64.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct SignalAction
{
    public nint Handler;
    public fixed ulong Mask[16];
    public int Flags;
    public nint Restorer;
}
