using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Net;

/// <summary>A timer whose setting is part of the state.</summary>
sealed class CardTimer
{
    const long Never = -1;

    readonly IVirtualClock _clock;
    readonly IVmTimer _timer;
    long _due = Never;

    public CardTimer(IVirtualClock clock, Action expired)
    {
        _clock = clock;
        _timer = clock.CreateTimer(() =>
        {
            _due = Never;
            expired();
        });
    }

    public bool IsArmed => _due != Never;

    public void ArmIn(long nanoseconds)
    {
        _due = _clock.Nanoseconds + nanoseconds;
        _timer.ArmAt(_due);
    }

    public void Cancel()
    {
        _due = Never;
        _timer.Cancel();
    }

    public void Exchange(StateStream state, string name)
    {
        state.Field(name, ref _due);
        if (!state.IsLoading) return;
        if (_due < Never) throw state.Refuse(name, $"{_due} is no time");
        if (_due == Never) _timer.Cancel();
        else _timer.ArmAt(_due);
    }
}
