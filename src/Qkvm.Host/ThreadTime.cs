namespace Qkvm.Host;

// SAFETY: the kernel writes one struct on the stack.
/// <summary>What a thread has had of processors: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID.</summary>
public static unsafe class ThreadTime
{
    const int ThreadCpuTime = 3;
    const ulong NanosecondsPerSecond = 1_000_000_000;

    /// <summary>Of the thread that asks.</summary>
    public static ulong Nanoseconds
    {
        get
        {
            Timespec time = default;
            return Libc.clock_gettime(ThreadCpuTime, &time) < 0 ? 0
                : (ulong)time.Seconds * NanosecondsPerSecond + (ulong)time.Nanoseconds;
        }
    }
}
