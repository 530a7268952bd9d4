using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Machines;

/// <summary>Points and steps of a debugger.</summary>
public sealed partial class Machine
{
    readonly Queue<(IVCpu Cpu, DebugStop Stop)> _missed = new();   // watched data, while stopped for another vCPU
    DebugRun? _debugRun;                                           // how it runs; null: all, without steps
    IVCpu? _stopped;                                               // what the debugger looks at

    public event Action<IVCpu, DebugStop>? DebugStopped;

    public IReadOnlyList<DebugPoint> DebugPoints { get; set; } = [];

    public bool CanStopAt(IReadOnlyList<DebugPoint> points) => Accelerator.CanStopAt(points, View);

    public void Resume(DebugRun run)
    {
        if (!CanResume) return;
        if (_sleeps)
        {
            Resume();
            return;
        }
        _debugRun = run;
        IVCpu[] running = [.. Cpus.Where(run.Runs)];
        IVCpu? alone = running is [{ } only] && Steps(only) ? only : null;
        State = RunState.Running;
        // One that waits for an interrupt would wait for ever.
        if (!run.StopsClock || !running.Any(cpu => Steps(cpu) && !cpu.IsHalted))
        {
            _clock.Start();
            Accelerator.StartClock();
        }
        Events.Raise(new ResumeEvent());
        if (_resetting) return;
        while (_missed.TryDequeue(out var missed))
        {
            if (!DebugPoints.Contains(missed.Stop.Point!.Value)) continue;
            StopForDebugger(missed.Cpu, missed.Stop);
            return;
        }
        if (alone is { StepsAtOnce: true }) StepHere(alone);
        else RunCpus();
    }

    /// <summary>On this thread, which is several times as fast as to wake the vCPU's and to be woken by it.</summary>
    void StepHere(IVCpu cpu)
    {
        Prepare();
        VCpuExit exit;
        do exit = cpu.Run();
        while (exit.Reason == ExitReason.Kicked);
        Unprepare();
        if (exit.Reason == ExitReason.Debug) StopForDebugger(cpu, exit.Stop);
        else OnVCpuExit(cpu, exit);
    }

    void StopForDebugger(IVCpu cpu, DebugStop stop)
    {
        // Before an instruction it will stop again.
        if (State == RunState.Debug && stop.Point is { IsCode: false }) _missed.Enqueue((cpu, stop));
        if (State != RunState.Running) return;
        _stopped = cpu;
        Pause(RunState.Debug);
        DebugStopped?.Invoke(cpu, stop);
    }

    /// <summary>By whose translation points are placed.</summary>
    IVCpu View => _stopped ?? Cpus[0];

    bool Steps(IVCpu cpu) => _debugRun?.Steps?.Invoke(cpu) ?? false;

    void RunCpus()
    {
        Prepare();
        _runner!.Resume(_debugRun?.Runs);
    }

    void StopCpus()
    {
        _runner!.Pause();
        Unprepare();
    }

    void Prepare()
    {
        foreach (IVCpu cpu in Cpus)
            cpu.Steps = !Steps(cpu) ? VCpuSteps.None
                : _debugRun!.Undisturbed ? VCpuSteps.OneUndisturbed : VCpuSteps.One;
        if (DebugPoints.Count > 0) Accelerator.StopAt(DebugPoints, View);
    }

    void Unprepare()
    {
        if (DebugPoints.Count > 0) Accelerator.StopAt([], View);
    }
}
