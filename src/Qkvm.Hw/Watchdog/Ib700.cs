using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Watchdog;

/// <summary>ib700: the watchdog of iBASE's single board computers. A write to port 443h starts it or puts it off, one
/// to 441h stops it. Spec: iBASE IB700 user's manual, "Watchdog timer".</summary>
public sealed class Ib700 : IDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("ib700", BusKind.Isa, [],
        static (_, site) =>
        {
            var device = new Ib700(site.Clock, site.Board.RequestWatchdog);
            site.MapPorts(Stop, MemoryRegion.Io("ib700", Length, device, AccessSizes.Bytes));
            return device;
        }) { Description = "iBASE 700 watchdog" };

    const ulong Stop = 0x441, Length = 3, StopOffset = 0, StartOffset = 2;
    const long NanosecondsPerSecond = 1_000_000_000;
    const int Longest = 30, Step = 2;                              // seconds: 0 stands for 30, 15 for none at all

    readonly IVirtualClock _clock;
    readonly Action _expired;
    readonly IVmTimer _timer;
    long _deadline = TickClock.Never;

    /// <param name="expired">It has run out.</param>
    public Ib700(IVirtualClock clock, Action expired)
    {
        (_clock, _expired) = (clock, expired);
        _timer = clock.CreateTimer(RanOut);
    }

    public string Name => Model.Name;
    public void Reset() => Arm(TickClock.Never);
    public ulong Read(ulong offset, int size) => 0xFF;

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == StopOffset) Arm(TickClock.Never);
        if (offset == StartOffset)
            Arm(_clock.Nanoseconds + (Longest - Step * (long)(value & 0xF)) * NanosecondsPerSecond);
    }

    public void Exchange(StateStream state)
    {
        state.Field("deadline", ref _deadline);
        if (_deadline < 0) throw new InvalidStateException($"{Name}: a deadline before time began");
        if (state.IsLoading) Arm(_deadline);
    }

    void RanOut()
    {
        _deadline = TickClock.Never;
        _expired();
    }

    void Arm(long deadline)
    {
        _deadline = deadline;
        if (deadline == TickClock.Never) _timer.Cancel();
        else _timer.ArmAt(deadline);
    }
}
