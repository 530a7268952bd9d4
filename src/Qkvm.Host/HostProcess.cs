using System.Runtime.InteropServices;

namespace Qkvm.Host;

/// <summary>This process as the host sees it.</summary>
public static unsafe partial class HostProcess
{
    const int LockCurrent = 1, LockFuture = 2, SetThreadName = 15, NameLength = 15;

    /// <summary>All memory, present and to come, stays in RAM: mlockall(2). 0, or the errno.</summary>
    public static int LockMemory() => mlockall(LockCurrent | LockFuture) == 0 ? 0 : Libc.Errno;

    /// <summary>The name that ps and top show: prctl(2), PR_SET_NAME; 15 bytes of it. Called on the main
    /// thread.</summary>
    public static void SetName(string name)
    {
        Span<byte> text = stackalloc byte[NameLength + 1];
        text.Clear();
        System.Text.Encoding.UTF8.GetEncoder().Convert(name, text[..NameLength], flush: true, out _, out _, out _);
        fixed (byte* at = text) Libc.prctl(SetThreadName, (nuint)at, 0, 0,
            0); // SAFETY: ends with a zero byte, read during the call alone
    }

    /// <summary>Descriptors that it may have open at once: getrlimit(2), RLIMIT_NOFILE.</summary>
    public static long MaxDescriptors
    {
        get
        {
            const int openFiles = 7;
            ulong* limits = stackalloc ulong[2];                   // SAFETY: written during the call alone
            return getrlimit(openFiles, limits) == 0 ? (long)Math.Min(limits[0], int.MaxValue) : 1024;
        }
    }

    [LibraryImport("libc")]
    private static partial int getrlimit(int resource, ulong* limits);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mlockall(int flags);
}
