using Qkvm.Core.Time;

namespace Qkvm.Accel.Tcg.Model;

/// <summary>What all processors of a machine share of Hyper-V's interface. Spec: TLFS 6.0b, sections 3.12 and
/// 12.5.</summary>
sealed class HyperVPartition
{
    const int NanosecondsPerTick = 100;

    long _start = HostClock.Nanoseconds;

    /// <summary>The registers that have one value for all.</summary>
    public ulong GuestOsId, Hypercall, ReferenceTsc, ReenlightenmentControl, TscEmulationControl;

    /// <summary>In 100 ns since power-on.</summary>
    public ulong ReferenceTime
    {
        get => ReferenceTimeAt((ulong)HostClock.Nanoseconds);
        set => Volatile.Write(ref _start, HostClock.Nanoseconds - (long)value * NanosecondsPerTick);
    }

    /// <summary>At a time of the host's clock.</summary>
    public ulong ReferenceTimeAt(ulong nanoseconds) =>
        (nanoseconds - (ulong)Volatile.Read(ref _start)) / NanosecondsPerTick;

    /// <summary>With the boot processor.</summary>
    public void Reset()
    {
        (GuestOsId, Hypercall, ReferenceTsc, ReenlightenmentControl, TscEmulationControl) = (0, 0, 0, 0, 0);
        ReferenceTime = 0;
    }
}
