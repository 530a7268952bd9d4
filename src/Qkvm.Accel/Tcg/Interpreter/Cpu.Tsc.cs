using System.Diagnostics;

namespace Qkvm.Accel.Tcg.Interpreter;

/// <summary>The time stamp counter: the host's monotonic clock, by default at 1 GHz, on all vCPUs the same until the guest writes it.</summary>
public sealed unsafe partial class Cpu
{
    const ulong Nanoseconds = 1_000_000_000;

    /// <summary>-cpu's tsc-frequency=.</summary>
    public ulong TscHertz { get; }

    /// <summary>Any thread.</summary>
    public ulong ReadTsc() => HostTsc() + Volatile.Read(ref State->TscOffset);

    ulong HostTsc() => TscHertz == Nanoseconds ? HostNanoseconds() : (ulong)((UInt128)HostNanoseconds() * TscHertz / Nanoseconds);

    static ulong HostNanoseconds() => Stopwatch.Frequency == (long)Nanoseconds ? (ulong)Stopwatch.GetTimestamp()
        : (ulong)((UInt128)(ulong)Stopwatch.GetTimestamp() * Nanoseconds / (ulong)Stopwatch.Frequency);

    /// <summary>As WRMSR: TSC_ADJUST moves along. Intel SDM vol. 3, section 17.17.3.</summary>
    void SetTsc(ulong value)
    {
        ulong delta = value - ReadTsc();
        State->TscOffset += delta;
        State->TscAdjust += delta;
        UpdateKvmClock();
    }
}
