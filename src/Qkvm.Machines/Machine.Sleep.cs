using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>Sleep to RAM, S3, and what ends it.</summary>
public sealed partial class Machine
{
    bool _sleeps;                                                  // a paused machine that goes on sleeping

    public bool CanSleep => _board.CanSleep;

    public void RequestSleep() => _loop.Post(() =>
    {
        if (State != RunState.Running) return;
        StopCpus();                                                // time goes on: an alarm can wake
        State = RunState.Suspended;
        Events.Raise(new SuspendEvent());
    });

    public void RequestWakeUp(WakeCause cause) => _loop.Post(() => { if (IsAsleep) Wake(cause); });

    public void WakeUp()
    {
        if (!CanSleep) throw new CommandException("wake-up from suspend is not supported by this guest");
        if (!IsAsleep) throw new CommandException("Unable to wake up: guest is not in suspended state");
        Wake(WakeCause.Other);
    }

    bool IsAsleep => State == RunState.Suspended && !_resetting;

    /// <summary>All starts afresh but memory; the firmware finds the guest there.</summary>
    void Wake(WakeCause cause)
    {
        _resetting = true;
        WhenDisksAreIdle(() =>
        {
            _resetting = false;
            if (_quitting || State != RunState.Suspended) return;
            _board.Wake(cause);
            ResetCpus();
            State = RunState.Running;
            Events.Raise(new WakeUpEvent());
            RunCpus();
        });
    }
}
