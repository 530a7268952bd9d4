using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>What devices and vCPUs ask for, from any thread; the main loop does it.</summary>
public sealed partial class Machine
{
    int _resetRequested;

    public void RequestShutdown(ShutdownCause cause, int exitCode) => _loop.Post(() => Shutdown(cause, exitCode));

    public void RequestReset(ShutdownCause cause)
    {
        if (Interlocked.Exchange(ref _resetRequested, 1) != 0) return;
        _loop.Post(() =>
        {
            Volatile.Write(ref _resetRequested, 0);
            if (Actions.Reboot == RebootAction.Shutdown && cause == ShutdownCause.GuestReset) Shutdown(cause, 0);
            else if (State is RunState.Running or RunState.Paused or RunState.IoError or RunState.Debug) Reset(cause);
        });
    }

    public void RequestStill(Action work) => _loop.Post(() => WhileStill(work));

    public void AddCpu(IVCpu cpu)
    {
        if (_runner is not { } runner) return;                     // the first start resets all together
        runner.Add(cpu);
        Reset(cpu);
    }

    public void RemoveCpu(IVCpu cpu)
    {
        if (_stopped == cpu) _stopped = null;
        _runner!.Remove(cpu);
    }

    public void Raise(MachineEvent happened) => Events.Raise(happened);
    public void Warn(string line) => _messages.WriteLine($"qkvm: {line}");

    public void RequestPause(string reason) => _loop.Post(() => Pause(RunStates.Parse(reason)));

    void Shutdown(ShutdownCause cause, int exitCode)
    {
        if (cause == ShutdownCause.GuestPanic)
        {
            if (!Panicked()) return;
            if (Actions.Panic == PanicAction.ExitFailure) exitCode = 1;
        }
        if (_quitting || State == RunState.Shutdown && cause is ShutdownCause.GuestShutdown or ShutdownCause.GuestReset)
            return;
        if (Actions.Shutdown == ShutdownAction.Pause
            && cause is ShutdownCause.GuestShutdown or ShutdownCause.GuestReset)
        {
            Events.Raise(new ShutdownEvent(cause));
            Pause(RunState.Shutdown);
        }
        else Quit(cause, exitCode);
    }

    /// <summary>Whether the machine ends.</summary>
    bool Panicked()
    {
        bool goesOn = Actions.Panic == PanicAction.None, pauses = Actions.Panic == PanicAction.Pause
            || Actions.Panic == PanicAction.Shutdown && Actions.Shutdown == ShutdownAction.Pause;
        Events.Raise(new GuestPanickedEvent(goesOn ? "run" : pauses ? "pause" : "poweroff"));
        if (!goesOn && pauses) Pause(RunState.GuestPanicked);
        return !goesOn && !pauses;
    }

    void OnVCpuExit(IVCpu cpu, VCpuExit exit)
    {
        switch (exit.Reason)
        {
            case ExitReason.Shutdown:
                _onCpuReset?.Invoke(cpu, "Triple fault");
                RequestReset(ShutdownCause.GuestReset);
                break;
            case ExitReason.Debug:
                _loop.Post(() => StopForDebugger(cpu, exit.Stop));
                break;
            default:
                _loop.Post(() =>
                {
                    _messages.WriteLine($"{Accelerator.Name}: CPU {cpu.Index} cannot go on: {exit.Message}");
                    Pause(RunState.InternalError);
                });
                break;
        }
    }
}
