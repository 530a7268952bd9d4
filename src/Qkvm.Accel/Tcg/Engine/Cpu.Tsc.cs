using Qkvm.Core.Time;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The time stamp counter: the host's monotonic clock, by default at 1 GHz, on all vCPUs the same until the
/// guest writes it.</summary>
public sealed unsafe partial class Cpu
{
    const ulong Nanoseconds = 1_000_000_000;

    /// <summary>-cpu's tsc-frequency=.</summary>
    public ulong TscHertz { get; }

    /// <summary>Any thread.</summary>
    public ulong ReadTsc() => HostTsc() + TscOffset;

    ulong HostTsc() => HostTsc(HostNanoseconds());

    /// <summary>The counter, before the guest's offset, at a time of the host's clock.</summary>
    ulong HostTsc(ulong nanoseconds) => TscHertz == Nanoseconds ? nanoseconds
        : (ulong)((UInt128)nanoseconds * TscHertz / Nanoseconds);

    static ulong HostNanoseconds() => (ulong)HostClock.Nanoseconds;

    /// <summary>At power-on and reset. Deviation: a reset lets the counter go on, so that no vCPU is behind
    /// another.</summary>
    void ResetTsc() => (State->TscOffset, State->TscAdjust) = (0, 0);

    /// <summary>As WRMSR: TSC_ADJUST moves along. Intel SDM vol. 3, section 17.17.3.</summary>
    void SetTsc(ulong value)
    {
        ulong delta = value - ReadTsc();
        State->TscOffset += delta;
        State->TscAdjust += delta;
        TscChanged();
    }

    void TscChanged()
    {
        UpdateKvmClock();
        UpdateReferencePage();
    }

    /// <summary>What the guest has added to it.</summary>
    internal ulong TscOffset => Volatile.Read(ref State->TscOffset);
}
