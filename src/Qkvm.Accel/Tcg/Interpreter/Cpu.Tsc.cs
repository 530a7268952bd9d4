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

    /// <summary>What the host's clock showed when this process began: counters of all vCPUs start together.</summary>
    static readonly ulong s_origin = HostNanoseconds();

    ulong HostTsc() => HostTsc(HostNanoseconds());

    /// <summary>The counter, before the guest's offset, at a time of the host's clock.</summary>
    ulong HostTsc(ulong hostNanoseconds)
    {
        ulong nanoseconds = hostNanoseconds - s_origin;
        return TscHertz == Nanoseconds ? nanoseconds : (ulong)((UInt128)nanoseconds * TscHertz / Nanoseconds);
    }

    static ulong HostNanoseconds() => Stopwatch.Frequency == (long)Nanoseconds ? (ulong)Stopwatch.GetTimestamp()
        : (ulong)((UInt128)(ulong)Stopwatch.GetTimestamp() * Nanoseconds / (ulong)Stopwatch.Frequency);

    /// <summary>At power-on and reset. Deviation: a reset lets the counter go on, so that no vCPU is behind another.</summary>
    void ResetTsc() => (State->TscOffset, State->TscAdjust) = (0, 0);

    /// <summary>As WRMSR: TSC_ADJUST moves along. Intel SDM vol. 3, section 17.17.3.</summary>
    void SetTsc(ulong value)
    {
        ulong delta = value - ReadTsc();
        State->TscOffset += delta;
        State->TscAdjust += delta;
        UpdateKvmClock();
    }
}
