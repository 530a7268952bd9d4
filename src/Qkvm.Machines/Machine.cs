using Qkvm.Core.Accel;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Host;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines;

/// <summary>A machine under control: starts and stops the vCPUs and the clock, carries resets and shutdowns
/// out.</summary>
/// <remarks>Device code requests; the main loop acts. What waits for vCPUs happens there alone.</remarks>
public sealed partial class Machine : IMachine, IMachineRequests, IDisposable
{
    readonly Board _board;
    readonly VirtualClock _clock;
    readonly EventLoop _loop;
    readonly MachineLock _lock;
    readonly MachineBackends _backends;
    readonly VCpuRunner? _runner;                                  // null while the board is made
    readonly TextWriter _messages;
    readonly MachineLog? _log;
    readonly Action<IVCpu, string>? _onCpuReset;
    bool _quitting;
    bool _resetting;                                               // a reset waits for the disks

    /// <param name="accelerator">Its maker disposes of it, after the machine.</param>
    /// <param name="catalogue">All devices that -device can name.</param>
    /// <param name="messages">Where a machine that cannot go on says why.</param>
    /// <param name="model">What the board is; the i440FX PC by default.</param>
    /// <param name="onCpuReset">Hears of each vCPU before it is reset, and why: -d cpu_reset.</param>
    public Machine(MachineEnvironment environment, MachineConfig config, IAccelerator accelerator,
        Catalogue<DeviceModel> catalogue, MachineBackends backends, TextWriter messages,
        Action<IVCpu, string>? onCpuReset = null, MachineModel? model = null)
    {
        _onCpuReset = onCpuReset;
        (_clock, _loop, _lock, Events) = (environment.Clock, environment.Loop, environment.Lock, environment.Events);
        _log = environment.Log;
        (Config, Actions, Accelerator, _backends, _messages) = (config, config.Actions, accelerator, backends,
            messages);
        using (_lock.Hold())
        {
            model ??= PcMachine.Model;
            var parts = new BoardParts(config, accelerator, backends, catalogue, _clock, _loop, _lock,
                () => environment.DataThread.Loop, this)
                { Log = _log, NewThread = static name => new IoThread(name) };
            _board = model.Create(new Properties(model, config.MachineOptions), parts);
            _board.Reset();
            ResetCpus();
            _runner = new VCpuRunner(_board.Cpus, _lock, OnVCpuExit);
        }
    }

    public MachineConfig Config { get; }
    public GuestActions Actions { get; set; }
    public bool TellsMigration { get; set; }
    public MigrationParameters Migration { get; set; } = MigrationParameters.Initial;
    public IAccelerator Accelerator { get; }
    public IBoard Board => _board;
    public IReadOnlyList<IVCpu> Cpus => _board.Cpus;
    public int ThreadOf(IVCpu cpu) => _runner!.ThreadOf(cpu.Index);
    public QBus Tree => _board.Tree;
    public QBus Slots => _board.Slots;
    public IReadOnlyList<AcpiOst> AcpiSlots => _board.AcpiSlots;
    public IReadOnlyList<GuestRam> RamBlocks => _board.RamBlocks;
    public IReadOnlyList<IDisplaySource> Displays => _board.Displays;
    public RunState State
    {
        get;
        private set
        {
            if (_log is { } log && value != field) Tell(log, field, value);
            field = value;
        }
    } = RunState.PreLaunch;

    /// <summary>By QEMU's numbers.</summary>
    static readonly string[] QemuStates =
    [
        "debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch", "finish-migrate",
        "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog", "guest-panicked",
    ];

    /// <summary>In QEMU's words: each change of the state, and whether the vCPUs run in it.</summary>
    static void Tell(MachineLog log, RunState old, RunState now)
    {
        string Numbered(RunState state) => $"{Array.IndexOf(QemuStates, state.Text())} ({state.Text()})";
        if (log.Events.RunStateSet is { Enabled: true } set)
            log.Write($"{set.Name} current_run_state {Numbered(old)} new_state {Numbered(now)}\n");
        if (log.Events.StateNotify is { Enabled: true } notify && (old == RunState.Running || now == RunState.Running))
            log.Write($"{notify.Name} running {(now == RunState.Running ? 1 : 0)} reason {Numbered(now)}\n");
    }

    /// <summary>For the program, once the loop is left.</summary>
    public int ExitCode { get; private set; }

    public EventBus Events { get; }
    /// <summary>Runs the main loop until the machine ends; the exit code.</summary>
    public int Run()
    {
        _lock.Run(() =>
        {
            if (Config.Incoming != null) State = RunState.InMigrate;
            else if (!Config.StartPaused) Resume();
        });
        if (!_quitting) _loop.Run();
        return ExitCode;
    }

    public void Pause(RunState state = RunState.Paused)
    {
        if (State is not (RunState.Running or RunState.Suspended)) return;
        _sleeps = State == RunState.Suspended;
        StopRunning();
        State = state;
        Events.Raise(new StopEvent());
    }

    public void WhileStill(Action look)
    {
        if (State != RunState.Running) { look(); return; }
        StopCpus();
        try { look(); }
        finally { RunCpus(); }
    }

    public void Resume()
    {
        if (!CanResume) return;
        _debugRun = null;
        State = _sleeps ? RunState.Suspended : RunState.Running;
        _clock.Start();
        Accelerator.StartClock();
        Events.Raise(new ResumeEvent());
        foreach (BlockBackend drive in _backends.Drives.Values) drive.Errors.Retry();
        if (!_resetting && !_sleeps) RunCpus();
    }

    bool CanResume => !_quitting && State is not (RunState.Running or RunState.Suspended or RunState.Shutdown
        or RunState.InternalError or RunState.GuestPanicked);

    public void Reset(ShutdownCause cause = ShutdownCause.HostReset)
    {
        if (_resetting) return;
        bool wasRunning = State == RunState.Running;
        StopCpus();
        _resetting = true;
        WhenDisksAreIdle(() =>
        {
            _resetting = false;
            if (_quitting) return;
            _sleeps = false;
            _board.Reset();
            ResetCpus();
            if (!wasRunning && State is not (RunState.InMigrate or RunState.Running)) State = RunState.PreLaunch;
            Events.Raise(new ResetEvent(cause));
            if (State == RunState.Running) RunCpus();
        });
    }

    public void WhenDisksAreIdle(Action action)
    {
        foreach (BlockBackend drive in _backends.Drives.Values)
        {
            if (drive.IsIdle) continue;
            drive.WhenIdle(() => WhenDisksAreIdle(action));
            return;
        }
        action();
    }

    public void PowerDown()
    {
        _board.PressPowerButton();
        Events.Raise(new PowerDownEvent());
    }

    public void Quit(ShutdownCause cause = ShutdownCause.HostQuit, int exitCode = 0)
    {
        if (_quitting) return;
        Events.Raise(new ShutdownEvent(cause));
        if (State is RunState.Running or RunState.Suspended) StopRunning();
        _quitting = true;
        ExitCode = exitCode;
        _loop.Stop();
    }

    public void SetBootOrder(string letters) => _board.SetBootOrder(letters);

    public void InjectNmi()
    {
        foreach (IVCpu cpu in Cpus) cpu.Signal(CpuSignal.Nmi);
    }

    /// <summary>No vCPU runs while one comes.</summary>
    public void AddDevice(DeviceConfig device) => WhileStill(() => _board.AddDevice(device));

    /// <summary>No vCPU still reads memory that goes.</summary>
    public void RemoveDevice(string id) => WhileStill(() => _board.RemoveDevice(id));

    public void Exchange(StateStream state)
    {
        _clock.Exchange(state.Section("clock"));
        state.Section("sleep").Field("sleeps", ref _sleeps);
        if (Accelerator.IsKernel) Accelerator.Exchange(state.Section("accelerator"));
        foreach (IVCpu cpu in Cpus) cpu.Exchange(state.Group("cpu", cpu.Index));
        _board.Exchange(state.Group("board"));
    }

    public void Dispose()
    {
        using (_lock.Hold())
        {
            if (State == RunState.Running) StopRunning();
            _runner!.Dispose();
            _board.Dispose();
        }
    }

    /// <summary>Afterwards no vCPU runs and time stands still. Requests to disks may still complete.</summary>
    void StopRunning()
    {
        StopCpus();
        _clock.Stop();
        Accelerator.StopClock();
    }

    void ResetCpus()
    {
        foreach (IVCpu cpu in Cpus) Reset(cpu);
        _board.StartCpus();
    }

    void Reset(IVCpu cpu)
    {
        _onCpuReset?.Invoke(cpu, "CPU Reset");
        cpu.Reset();
    }
}
