using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Tests.Isa;

/// <summary>isa-alarm: a write of n raises the line n milliseconds later, a read lowers it and gives what it
/// was.</summary>
public sealed class IsaAlarm : IDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("isa-alarm", BusKind.Isa,
        [Property.Number("iobase", 0x2C0, max: 0xFFFF), Property.Number("irq", 5, max: 15)],
        static (properties, board) =>
        {
            var device = new IsaAlarm(board.Clock, board.Irq((int)properties.Number("irq")));
            board.Ports.Map(properties.Number("iobase"), MemoryRegion.Io(device.Name, 1, device, AccessSizes.ByteOnly));
            return device;
        }) { Description = "an alarm clock" };

    const long Millisecond = 1_000_000, Never = long.MaxValue;

    readonly IVirtualClock _clock;
    readonly IVmTimer _timer;
    readonly IrqLine _irq;
    long _due = Never;

    public IsaAlarm(IVirtualClock clock, IrqLine irq)
    {
        (_clock, _irq) = (clock, irq);
        _timer = clock.CreateTimer(Ring);
    }

    public string Name => Model.Name;

    public void Reset()
    {
        Arm(Never);
        _irq.Set(false);
    }

    public ulong Read(ulong offset, int size)
    {
        ulong wasUp = _irq.Level ? 1UL : 0;
        _irq.Set(false);
        return wasUp;
    }

    public void Write(ulong offset, int size, ulong value) => Arm(_clock.Nanoseconds + (long)value * Millisecond);

    public void Exchange(StateStream state)
    {
        bool level = _irq.Level;
        state.Field("due", ref _due);
        state.Field("level", ref level);
        if (_due < 0) throw new InvalidStateException($"{Name}: due before time began");
        if (!state.IsLoading) return;
        _irq.Restore(level);                                       // the level without an edge
        Arm(_due);
    }

    void Ring()
    {
        _due = Never;
        _irq.Set(true);
    }

    void Arm(long due)
    {
        _due = due;
        if (due == Never) _timer.Cancel();
        else _timer.ArmAt(due);
    }
}
