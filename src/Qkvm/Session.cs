using System.Runtime.InteropServices;
using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Backends.Char;
using Qkvm.Control;
using Qkvm.Control.Commands;
using Qkvm.Control.Dump;
using Qkvm.Control.Gdb;
using Qkvm.Control.Metrics;
using Qkvm.Core.Accel;
using Qkvm.Core.Char;
using Qkvm.Core.Display;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Time;
using Qkvm.Host;
using Qkvm.Host.Sandboxing;
using Qkvm.Machines;

namespace Qkvm;

/// <summary>One run: has the backends opened, the machine built over them, runs it, and puts everything back on each
/// way out.</summary>
sealed class Session : IDisposable
{
    /// <summary>Under -d lockstep: about as much slower as the guest is, so that its clock ticks are not most of what
    /// it does.</summary>
    const int LockstepSlowdown = 100;

    MachineConfig _config;
    readonly Notices _notices;
    readonly MachineEnvironment _environment = new();
    readonly BackendHost _host;
    readonly List<IDisposable> _opened = [];                       // closed in reverse order, before the backends
    readonly List<PosixSignalRegistration> _signals = [];
    readonly GuestDump _dump = new();
    Machine? _machine;
    GdbServer? _gdb;
    MachineLog? _log;

    public Session(MachineConfig config, Notices notices)
    {
        (_config, _notices) = (config, notices);
        _host = new BackendHost(_environment, notices, () => _machine!.Quit(), config.Escape);
    }

    /// <returns>The exit code.</returns>
    public int Run()
    {
        ThreadPool.SetMinThreads(16, 16);                          // block requests wait in the kernel, not on a core
        Preflight.Check(_config);
        if (_config.Sandbox is { DenySpawn: true }) Programs.Forbid();
        Account? account = Confinement.Find(_config.RunAs);
        MachineModel model = Catalogue.Machines.Get(_config.MachineType, _config.MachineOptions.Owner);
        _environment.Log = _log = Keep(LogOptions.Open(_config, _notices));
        // Nothing is changed on disk or host before all that only reads has succeeded.
        foreach (FdConfig fd in _config.Fds) AddFd(fd);
        foreach (ObjectConfig made in _config.Objects.Where(made => !NeedsOthers(made))) _host.Add(made);
        foreach (BlockdevConfig blockdev in _config.Blockdevs) _host.Add(blockdev);
        _config = UefiFirmware.Choose(_config);
        foreach (DriveConfig drive in _config.Drives) _host.Add(drive);
        IAccelerator accelerator = Keep(ChooseAccelerator());
        using (_environment.Lock.Hold())
        {
            foreach (ChardevConfig chardev in _config.Chardevs) _host.Add(chardev);
            foreach (NetdevConfig netdev in _config.Netdevs) _host.Add(netdev);
            foreach (TpmConfig tpm in _config.Tpms) _host.Add(tpm);
            foreach (FolderConfig folder in _config.Folders) _host.Add(folder);
            foreach (AudioConfig audiodev in _config.Audiodevs) _host.Add(audiodev);
            foreach (ObjectConfig made in _config.Objects.Where(NeedsNetdev)) _host.Add(made);
        }
        _machine =
            Keep(new Machine(_environment, _config, accelerator, Catalogue.Devices, _host.Backends, Console.Error,
            new CpuLog(_log).OnReset, model));
        _host.BlockJobs.Jobs.Happened += _machine.Events.Raise;
        using (_environment.Lock.Hold())
        {
            foreach (DisplayConfig display in _config.Displays) OpenDisplay(display);
            _gdb = Keep(new GdbServer(_host, () => MakeContext(static () => -1)));
            if (_config.GdbChardev is { } gdb) _gdb.Open(gdb, "-gdb");
            _host.MonitorOpener = OpenMonitor;
            foreach (MonitorConfig monitor in _config.Monitors) Keep(OpenMonitor(monitor));
            foreach (MetricsConfig metrics in _config.Metrics)
                Keep(new MetricsServer(metrics.Address, metrics.Owner, MakeContext(static () => -1)));
            foreach (ObjectConfig made in _config.Objects.Where(NeedsMachine)) _host.Add(made);
        }
        if (_config.LocksMemory && HostProcess.LockMemory() is not 0 and var errno)
            throw new ConfigurationException($"-overcommit mem-lock=on: cannot lock the memory: "
                + $"{Libc.Message(errno)}; raise the limit (ulimit -l) or leave it out");
        if (_config.PidFile is { } pidFile) WritePid(pidFile);
        if (_config.ProcessName is { } name) HostProcess.SetName(name);
        HandleSignals();
        WarnOfWhatIsOtherThanAsked(accelerator);
        _notices.Release();
        SayHowToLeave();
        Daemon.Detach();
        Confinement.Enter(_config, account);
        Daemon.Ready();
        int code = _machine.Run();
        _environment.Lock.Run(() => _gdb.TellExit(code));
        return code;
    }

    public void Dispose()
    {
        foreach (PosixSignalRegistration signal in _signals) signal.Dispose();
        if (!_host.SettleDisks()) return;
        using (_environment.Lock.Hold())
        {
            for (int i = _opened.Count - 1; i >= 0; i--) _opened[i].Dispose();
            _host.Close();
        }
        _host.CloseDisks();
        _environment.Dispose();
    }

    static bool NeedsNetdev(ObjectConfig made) => Catalogue.Objects.Get(made.Type, made.Owner).NeedsNetdev;
    static bool NeedsMachine(ObjectConfig made) => Catalogue.Objects.Get(made.Type, made.Owner).NeedsMachine;
    static bool NeedsOthers(ObjectConfig made) => NeedsNetdev(made) || NeedsMachine(made);

    /// <summary>A duplicate goes into the set, as the manager may close its own number.</summary>
    static void AddFd(FdConfig fd)
    {
        int own = Libc.dup(fd.Fd);
        if (own < 0) throw new ConfigurationException($"{fd.Owner}: fd={fd.Fd}: {Libc.Message(Libc.Errno)}; the "
            + "program that starts this one must open it and let it be inherited");
        DescriptorSets.Add(fd.Set, own, fd.Opaque);
    }

    T Keep<T>(T opened)
    {
        if (opened is IDisposable disposable) _opened.Add(disposable);
        return opened;
    }

    void WarnOfWhatIsOtherThanAsked(IAccelerator accelerator)
    {
        if (accelerator is KvmAccelerator { MissingFeatures: { Count: > 0 } absent })
            _notices.Warn($"-cpu: KVM here lacks {string.Join(", ", absent)}; the guest will not see them");
        if (accelerator is TcgAccelerator { MissingFeatures: { Count: > 0 } missing })
            _notices.Warn($"-cpu: the software CPU lacks {string.Join(", ", missing)}; the guest will not see them");
        if (accelerator is TcgAccelerator && _config.Cpu.Model == "host")
            _notices.Warn("-cpu host: on the software CPU this is what it can do itself, as -cpu max");
        if (LogItems.Warning("-d", _log!.Items, accelerator) is { } silent) _notices.Warn(silent);
        if (accelerator is not TcgAccelerator && _config.PerfMap)
            _notices.Warn($"-perfmap: no effect under {accelerator.Name}, which translates nothing; needs -accel tcg");
        ulong hostMemory = (ulong)GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (_config.Memory.Size > hostMemory)
            _notices.Warn($"-m {_config.Memory.Size >> 20}M: this host has {hostMemory >> 20} MiB; a guest that uses "
                + "more than fits is slow or killed");
        foreach (GlobalConfig global in _config.Globals)
            if (Catalogue.Devices.Find(global.Driver) == null && !OfChips().Contains(
                $"{global.Driver}.{global.Property}"))
                _notices.Warn($"-global {global.Driver}.{global.Property}={global.Value}: no device of this machine "
                    + "takes it; it has no effect");

        IReadOnlyList<string> OfChips() => Catalogue.Machines.Find(_config.MachineType)?.ChipGlobals ?? [];
    }

    /// <summary>What -d and -perfmap want of the software CPU, now and whenever a monitor changes it.</summary>
    void Observe(TcgAccelerator tcg)
    {
        tcg.Warn = _notices.Warn;
        tcg.Lockstep = _log!.Has(LogItem.Lockstep);
        if (tcg.Lockstep) HostClock.Slowdown = LockstepSlowdown;
        TextWriter? map = _config.PerfMap
            ? Keep(new StreamWriter($"/tmp/perf-{Environment.ProcessId}.map") { AutoFlush = true }) : null;
        var events = new CpuLog(_log);
        var code = new CodeLog(_log, map);
        Choose();
        _log.Changed += () => _machine!.WhileStill(Choose);

        void Choose()
        {
            tcg.Trace = _log.Has(LogItem.Events) ? events : null;
            tcg.CodeTrace = _log.Has(LogItem.Code) || map != null ? code : null;
        }
    }

    IAccelerator ChooseAccelerator()
    {
        for (int i = 0; ; i++)
        {
            AcceleratorConfig wanted = _config.Accelerators[i];
            try
            {
                AcceleratorModel model = Catalogue.Accelerators.Get(wanted.Name, wanted.Options.Owner);
                IAccelerator accelerator = model.Create(new Properties(model, wanted.Options), _config);
                if (accelerator is TcgAccelerator tcg) Observe(tcg);
                return accelerator;
            }
            catch (ConfigurationException e) when (i + 1 < _config.Accelerators.Count)
            {
                _notices.Warn($"{e.Message}; trying {_config.Accelerators[i + 1].Name}");
            }
        }
    }

    void OpenDisplay(DisplayConfig config)
    {
        DisplayModel model = Catalogue.Displays.Get(config.Kind, config.Owner);
        if (config.Address.Length > 0) config.Options.Add(config.Kind, config.Address);
        string title = _config.Name.Length > 0 ? $"qkvm ({_config.Name})" : "qkvm";
        var parts = new DisplayParts(_machine!.Displays.FirstOrDefault(), _machine.Board.Input, _environment.Loop,
            title, Console.WriteLine) 
        {
            Backends = _host.Backends, Raise = _machine.Board.Raise, Warn = _notices.Warn,
            Power = new(_machine.PowerDown, () => _machine.Board.RequestReset(ShutdownCause.HostReset)),
        };
        if (Keep(model.Create(new Properties(model, config.Options), parts)) is IRemoteDisplay remote)
            _host.Backends.RemoteDisplays.Add(remote);
    }

    OpenedMonitor OpenMonitor(MonitorConfig config) => OpenedMonitor.Open(_host, config, MakeContext);

    CommandContext MakeContext(Func<int> takeDescriptor) => new(_machine!, _host, CommandCatalogue.Standard)
    {
        MachineTypes = new(static () => [.. Catalogue.Machines.Models.Select(model => model.Info)]),
        CommandLineOptions = new(static () => Cli.CommandLineOptions.All),
        TakeDescriptor = takeDescriptor,
        Gdb = _gdb,
        Log = _log,
        Dump = _dump,
    };

    static void WritePid(string path)
    {
        try { File.WriteAllText(path, $"{Environment.ProcessId}\n"); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-pidfile {path}: {e.Message}", e);
        }
    }

    void HandleSignals()
    {
        foreach (PosixSignal signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
            _signals.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                _environment.Loop.Post(() =>
                {
                    Console.Error.WriteLine($"qkvm: terminating on signal {signal}\r");
                    _machine!.Quit(ShutdownCause.HostSignal);
                });
            }));
    }

    /// <summary>Somebody at a terminal whose ctrl-c goes to the guest is told the way out.</summary>
    void SayHowToLeave()
    {
        if (StdioChar.In(_host.Backends) is not { IsTerminal: true } terminal) return;
        Console.Error.Write(_host.Backends.Muxes.ContainsKey(terminal.Id)
            ? "qkvm: ctrl-a x quits, ctrl-a c switches to the monitor, ctrl-a h helps\r\n"
            : "qkvm: ctrl-c goes to the guest; to quit use the guest's poweroff, a monitor's quit, or: kill " +
            $"{Environment.ProcessId}\r\n");
    }
}
