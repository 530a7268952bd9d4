using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Gdb;

public sealed partial class GdbSession
{
    /// <summary>Bits of qqemu.sstep: steps are made at all; without interrupts; without timers.</summary>
    const int SstepEnable = 1, SstepNoIrq = 2, SstepNoTimer = 4, SstepAll = 7;

    int _sstep = SstepAll;

    /// <summary>The debugger let the machine go on and has not heard of a stop yet.</summary>
    bool _awaitsStop;
    bool _runsInPart;                                              // some vCPUs stand
    int _signal = GdbProtocol.SignalTrap;
    DebugStop _stop;

    /// <summary>"T05thread:p01.01;", with what was hit.</summary>
    string StopReply()
    {
        string reply = $"T{_signal:x2}thread:{ThreadId.Of(_looksAt.Index, _multiprocess)};";
        if (_signal != GdbProtocol.SignalTrap || _stop.Point is not { } point) return reply;
        return point.Kind switch
        {
            DebugPointKind.Software => _tellsSoftware ? $"{reply}swbreak:;" : reply,
            DebugPointKind.Hardware => _tellsHardware ? $"{reply}hwbreak:;" : reply,
            DebugPointKind.Write => $"{reply}watch:{_stop.Address:x16};",
            DebugPointKind.Read => $"{reply}rwatch:{_stop.Address:x16};",
            _ => $"{reply}awatch:{_stop.Address:x16};",
        };
    }

    void OnDebugStopped(IVCpu cpu, DebugStop stop)
    {
        _looksAt = _steps = cpu;
        _stop = stop;
        TellStop(GdbProtocol.SignalTrap);
    }

    void OnEvent(MachineEvent happened)
    {
        _registers = null;
        if (happened is not StopEvent) return;
        switch (_machine.State)
        {
            case RunState.Debug: break;                            // more is said at once
            case RunState.Paused: TellStop(GdbProtocol.SignalInterrupt); break;
            case RunState.Shutdown: TellStop(GdbProtocol.SignalQuit); break;
            case RunState.IoError: TellStop(GdbProtocol.SignalIo); break;
            case RunState.Watchdog: TellStop(GdbProtocol.SignalAlarm); break;
            case RunState.InternalError: TellStop(GdbProtocol.SignalAbort); break;
            case RunState.SaveVm or RunState.RestoreVm or RunState.FinishMigrate: break;
            default: TellStop(GdbProtocol.SignalUnknown); break;
        }
    }

    void TellStop(int signal)
    {
        _registers = null;
        _signal = signal;
        if (!_awaitsStop) return;
        _awaitsStop = false;
        Reply(StopReply());
    }

    /// <summary>A machine that stands, as one whose guest has switched itself off, is told to stand.</summary>
    void Interrupt()
    {
        if (_machine.State == RunState.Running) _machine.Pause();
        else if (_awaitsStop) TellStop(GdbProtocol.SignalInterrupt);
    }

    /// <summary>c and s, with an address to go on at or without.</summary>
    void Continue(string at, bool step)
    {
        if (at.Length > 0)
        {
            if (!GdbProtocol.TryNumber(at, out ulong rip) || !TryChange(_steps, r => { r.Rip = rip; return true; }))
            {
                Reply(GdbProtocol.Invalid);
                return;
            }
        }
        IVCpu chosen = _steps;
        if (step) Go(cpu => cpu == chosen, cpu => cpu == chosen);
        else Go(static _ => true, null);
    }

    /// <summary>C and S: a guest takes no signals of the host's.</summary>
    void ContinueWithSignal(string rest, bool step)
    {
        int at = rest.IndexOf(';');
        if (!GdbProtocol.TryNumber(at < 0 ? rest : rest.AsSpan(0, at), out _)) Reply(GdbProtocol.Invalid);
        else Continue(at < 0 ? "" : rest[(at + 1)..], step);
    }

    /// <summary>vCont;action[:thread]…: the first that names a thread holds for it; others stand.</summary>
    void ContinueThreads(string text)
    {
        string[] actions = text.Split(';');
        if (actions.Length < 2 || actions[0].Length > 0) { Reply(GdbProtocol.Invalid); return; }
        int count = _machine.Cpus.Count;
        var steps = new bool?[count];                              // null: stands
        foreach (string action in actions.AsSpan(1))
        {
            string[] parts = action.Split(':', 2);
            char kind = parts[0].Length > 0 ? parts[0][0] : '\0';
            if (kind is not ('c' or 'C' or 's' or 'S')) { Reply(GdbProtocol.NotKnown); return; }
            var id = new ThreadId(-1);
            if (parts.Length > 1 && !ThreadId.TryParse(parts[1], count, out id)) { Reply(GdbProtocol.Invalid); return; }
            for (int i = 0; i < count; i++)
                if (id.Names(i)) steps[i] ??= kind is 's' or 'S';
        }
        Go(cpu => steps[cpu.Index] != null, cpu => steps[cpu.Index] == true);
    }

    void Go(Func<IVCpu, bool> runs, Func<IVCpu, bool>? steps)
    {
        (_awaitsStop, _stop, _registers) = (true, default, null);
        _machine.DebugPoints = _points;
        _runsInPart = !_machine.Cpus.All(runs);
        bool stepsAtAll = (_sstep & SstepEnable) != 0;
        _machine.Resume(new DebugRun(runs, stepsAtAll ? steps : null, (_sstep & SstepNoIrq) != 0,
            (_sstep & SstepNoTimer) != 0));
    }

    void Detach()
    {
        RemovePoints();
        Reply(GdbProtocol.Ok);
        _machine.Resume();
    }

    void Kill()
    {
        _isOpen = false;                                           // and wants no more answers
        _context.Host.Warn("ended by a debugger");
        _machine.Quit();
    }
}
