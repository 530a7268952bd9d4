namespace Qkvm.Host;

// SAFETY: the kernel writes one struct on the stack.
/// <summary>What threads have had of processors, in nanoseconds: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID and its
/// sisters.</summary>
public static unsafe class ThreadTime
{
    const int ProcessCpuTime = 2, ThreadCpuTime = 3;

    /// <summary>Of a thread's own clock: pthread_getcpuclockid(3) makes it of the number like this.</summary>
    const int OfThread = 4, Scheduled = 2, NumberShift = 3;
    const ulong NanosecondsPerSecond = 1_000_000_000;

    /// <summary>Of the thread that asks.</summary>
    public static ulong Nanoseconds => Read(ThreadCpuTime);

    /// <summary>Of all threads of the process, those that ended too.</summary>
    public static ulong OfProcess => Read(ProcessCpuTime);

    /// <param name="thread">The kernel's number of a thread of this process.</param>
    /// <returns>0 for one that there is not.</returns>
    public static ulong Of(int thread) => Read(~thread << NumberShift | OfThread | Scheduled);

    static ulong Read(int clock)
    {
        Timespec time = default;
        return Libc.clock_gettime(clock, &time) < 0 ? 0
            : (ulong)time.Seconds * NanosecondsPerSecond + (ulong)time.Nanoseconds;
    }
}
