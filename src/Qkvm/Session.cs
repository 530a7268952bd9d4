using System.Runtime.InteropServices;
using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Backends.Block;
using Qkvm.Backends.Char;
using Qkvm.Backends.Display;
using Qkvm.Backends.Net;
using Qkvm.Control;
using Qkvm.Control.Commands;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qmp;
using Qkvm.Core.Accel;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Time;
using Qkvm.Machines;

namespace Qkvm;

/// <summary>One run: opens the backends, builds the machine over them, runs it, and puts everything back on each way out.</summary>
sealed class Session : IDisposable
{
    /// <summary>Under -d lockstep: about as much slower as the guest is, so that its clock ticks are not most of what it does.</summary>
    const int LockstepSlowdown = 100;

    readonly MachineConfig _config;
    readonly MachineEnvironment _environment = new();
    readonly MachineBackends _backends = new();
    readonly CharFactory _chardevs;
    readonly BlockFactory _blocks = new(Warn);
    readonly List<IDisposable> _opened = [];                       // closed in reverse order
    readonly List<PosixSignalRegistration> _signals = [];
    readonly List<ICharFrontend> _monitors = [];
    Machine? _machine;
    CpuLog? _log;
    TextWriter? _logOutput;

    public Session(MachineConfig config)
    {
        _config = config;
        _chardevs = new CharFactory(_environment.Loop, Console.WriteLine);
    }

    /// <returns>The exit code.</returns>
    public int Run()
    {
        ThreadPool.SetMinThreads(16, 16);                          // block requests wait in the kernel, not on a core
        RefuseWhatIsNotBuilt();
        // Nothing is changed on disk or host before all that only reads has succeeded.
        foreach (BlockdevConfig blockdev in _config.Blockdevs) OpenBlockdev(blockdev);
        foreach (DriveConfig drive in _config.Drives) OpenDrive(drive);
        IAccelerator accelerator = Keep(ChooseAccelerator());
        using (_environment.Lock.Hold())
        {
            foreach (ChardevConfig chardev in _config.Chardevs) OpenChardev(chardev);
            foreach (NetdevConfig netdev in _config.Netdevs) OpenNetdev(netdev);
        }
        _machine = Keep(new Machine(_environment, _config, accelerator, Catalogue.Devices, _backends, Console.Error, Log("cpu_reset") is { } log ? log.OnReset : null));
        if (accelerator is TcgAccelerator { MissingFeatures: { Count: > 0 } missing }) Warn($"-cpu: the software CPU lacks {string.Join(", ", missing)}; the guest will not see them");
        using (_environment.Lock.Hold())
        {
            foreach (DisplayConfig display in _config.Displays) OpenDisplay(display);
            foreach (MonitorConfig monitor in _config.Monitors) OpenMonitor(monitor);
        }
        if (_config.PidFile is { } pidFile) WritePid(pidFile);
        HandleSignals();
        SayHowToLeave();
        return _machine.Run();
    }

    public void Dispose()
    {
        foreach (PosixSignalRegistration signal in _signals) signal.Dispose();
        using (_environment.Lock.Hold())
            for (int i = _opened.Count - 1; i >= 0; i--) _opened[i].Dispose();
        foreach (BlockBackend drive in _backends.Drives.Values)
            if (!_config.Blockdevs.Any(b => b.NodeName == drive.Id)) drive.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _blocks.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _environment.Dispose();
    }

    T Keep<T>(T opened)
    {
        if (opened is IDisposable disposable) _opened.Add(disposable);
        return opened;
    }

    static void Warn(string line) => Console.Error.WriteLine($"qkvm: {line}");

    void RefuseWhatIsNotBuilt()
    {
        if (!Cli.Expander.Machines.Any(m => m.Name == _config.MachineType))
            throw new ConfigurationException($"-machine {_config.MachineType}: unsupported machine type"
                + $"{Suggestion.For(_config.MachineType, Cli.Expander.Machines.SelectMany(m => new[] { m.Name, m.Alias ?? m.Name }))}; '-machine help' lists those that exist");
        foreach (OptionPair option in _config.MachineOptions)
            if (option.Name is not ("usb" or "dump-guest-core" or "mem-merge" or "vmport" or "smm" or "graphics" or "hpet" or "acpi" or "kernel-irqchip" or "memory-backend")
                || (option.Name is "usb" && option.Value is "on") || (option.Name is "memory-backend" && !_config.Objects.Any(o => o.Id == option.Value)))
                throw new ConfigurationException($"-machine {option.Name}={option.Value}: is not built yet; leave it out");
        foreach (ObjectConfig made in _config.Objects)
            if (made.Type is not ("memory-backend-ram" or "rng-random" or "rng-builtin"))
                throw new ConfigurationException($"{made.Owner}: objects of type '{made.Type}' are not built yet");
        foreach (string item in _config.LogItems)
            if (!Cli.LogItems.All.Any(known => known.Name == item))
                throw new ConfigurationException($"-d {item}: unknown log item{Suggestion.For(item, Cli.LogItems.All.Select(known => known.Name))}; '-d help' lists them");
        ulong hostMemory = (ulong)GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (_config.Memory.Size > hostMemory)
            throw new ConfigurationException($"-m {_config.Memory.Size >> 20}M: this host has {hostMemory >> 20} MiB; give the guest less");
    }

    /// <summary>The log if -d names the item, else null.</summary>
    CpuLog? Log(string item) => _config.LogItems.Contains(item) ? _log ??= new CpuLog(LogOutput()) : null;

    /// <summary>-D's file, or stderr.</summary>
    TextWriter LogOutput()
    {
        if (_logOutput != null) return _logOutput;
        try { return _logOutput = _config.LogFile is { } path ? Keep(new StreamWriter(path) { AutoFlush = true }) : Console.Error; }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-D {_config.LogFile}: {e.Message}", e);
        }
    }

    TcgAccelerator SoftwareCpu(IReadOnlyList<OptionPair> options)
    {
        var tcg = new TcgAccelerator { Trace = Log("int"), Lockstep = _config.LogItems.Contains("lockstep") };
        if (tcg.Lockstep) HostClock.Slowdown = LockstepSlowdown;
        string[] code = [.. _config.LogItems.Where(CodeLog.Items.Contains)];
        if (code.Length > 0 || _config.PerfMap)
        {
            TextWriter? map = _config.PerfMap ? Keep(new StreamWriter($"/tmp/perf-{Environment.ProcessId}.map") { AutoFlush = true }) : null;
            tcg.CodeTrace = new CodeLog(code.Length > 0 ? LogOutput() : TextWriter.Null, code, map);
        }
        foreach (OptionPair option in options)
            switch (option.Name)
            {
                case "thread" when option.Value is "multi" or "single":
                case "split-wx":
                    break;                                          // one thread for each vCPU, code never writable: always so
                case "tb-size" when int.TryParse(option.Value, out int size) && size is >= 16 and <= 4096:
                    tcg.CodeCacheLimit = (long)size << 20;
                    break;
                case "one-insn-per-tb" when option.Value is "on" or "off":
                    tcg.OneInstruction = option.Value == "on";
                    break;
                default:
                    throw new ConfigurationException($"-accel tcg,{option.Name}={option.Value}: there are thread=single|multi, tb-size=16..4096 (MiB), "
                        + "one-insn-per-tb=on|off and split-wx=on|off");
            }
        return tcg;
    }

    IAccelerator ChooseAccelerator()
    {
        for (int i = 0; ; i++)
        {
            try
            {
                return _config.Accelerators[i].Name switch
                {
                    "kvm" => new KvmAccelerator(),
                    _ => SoftwareCpu(_config.Accelerators[i].Options),
                };
            }
            catch (ConfigurationException e) when (i + 1 < _config.Accelerators.Count)
            {
                Warn($"{e.Message}; trying {_config.Accelerators[i + 1].Name}");
            }
        }
    }

    void OpenBlockdev(BlockdevConfig blockdev)
    {
        BlockDriver node = _blocks.AddNode(blockdev.Owner, BlockdevOptions.FromPairs(
            [new("driver", blockdev.Driver), new("node-name", blockdev.NodeName), .. blockdev.Options.Select(o => new KeyValuePair<string, string>(o.Name, o.Value))]));
        var backend = new BlockBackend(blockdev.NodeName, _environment.Loop.Post) { IsReadOnly = node.IsReadOnly, Description = blockdev.NodeName };
        backend.Insert(node);
        _backends.Drives[blockdev.NodeName] = backend;
    }

    void OpenDrive(DriveConfig drive)
    {
        var backend = new BlockBackend(drive.Id, _environment.Loop.Post) { IsReadOnly = drive.ReadOnly, Serial = drive.Serial };
        if (drive.File is { } file)
        {
            List<KeyValuePair<string, string>> pairs = [new("file", file), .. drive.Options.Select(o => new KeyValuePair<string, string>(o.Name, o.Value))];
            if (drive.Format is { } format) pairs.Add(new("format", format));
            if (drive.ReadOnly) pairs.Add(new("readonly", "on"));
            if (drive.Snapshot) pairs.Add(new("snapshot", "on"));
            OpenedDrive opened = _blocks.OpenDrive(drive.Owner, BlockdevOptions.FromPairs(pairs));
            backend.IsReadOnly = opened.ReadOnly;
            backend.WriteCache = opened.WriteCache;
            backend.Description = opened.Description;
            backend.Insert(opened.Root);
        }
        _backends.Drives[drive.Id] = backend;
    }

    void OpenChardev(ChardevConfig config)
    {
        ICharBackend backend = Keep(_chardevs.Create(config));
        _backends.Chardevs[config.Id] = backend;
        if (!config.Mux) return;
        var mux = new MuxChar(backend, () => _machine!.Quit(), FlushDisks);
        _backends.Muxes[config.Id] = mux.AddPort;
    }

    void OpenNetdev(NetdevConfig config)
    {
        if (config.Type != "tap") throw new ConfigurationException($"{config.Owner}: the backend '{config.Type}' is not built yet; use tap");
        var options = new OptionReader(config.Options, config.Owner);
        int fd = options.Int("fd", -1);
        if (options.Bool("vhost", false)) throw new ConfigurationException($"{config.Owner}: vhost=on is not built yet; leave it out");
        var tap = new TapOptions(config.Id, options.Text("ifname"), options.Text("script") ?? TapOptions.DefaultScript,
            options.Text("downscript") ?? TapOptions.DefaultDownScript, fd >= 0 ? fd : null);
        options.Close();
        INetBackend backend = Keep(new TapBackend(config.Owner, tap, _environment.Loop));
        _backends.Netdevs[config.Id] = backend;
    }

    void OpenDisplay(DisplayConfig config)
    {
        string title = _config.Name.Length > 0 ? $"qkvm ({_config.Name})" : "qkvm";
        _backends.RemoteDisplays.Add(Keep(VncServer.Create(config, _machine!.Displays.FirstOrDefault(), _machine.Board.Input, _environment.Loop,
            title, Console.WriteLine)));
    }

    void OpenMonitor(MonitorConfig config)
    {
        ICharBackend backend = _backends.TakeChardev(config.Chardev, "-monitor");
        var context = new CommandContext(_machine!, _backends, CommandCatalogue.Standard);
        if (config.Control)
        {
            _monitors.Add(new QmpSession(backend, context, config.Pretty));
            return;
        }
        bool muxed = _backends.Muxes.ContainsKey(config.Chardev);
        _monitors.Add(new HmpMonitor(backend, context, ProgramVersion.Text, muxed));
    }

    /// <summary>ctrl-a s: what guests wrote reaches the disks.</summary>
    void FlushDisks()
    {
        foreach (BlockBackend drive in _backends.Drives.Values)
            if (drive.Root is { IsReadOnly: false } root) root.FlushAsync().AsTask().GetAwaiter().GetResult();
    }

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
        if (_chardevs.Stdio is not { IsTerminal: true } terminal) return;
        Console.Error.Write(_backends.Muxes.ContainsKey(terminal.Id)
            ? "qkvm: ctrl-a x quits, ctrl-a c switches to the monitor, ctrl-a h helps\r\n"
            : $"qkvm: ctrl-c goes to the guest; to quit use the guest's poweroff, a monitor's quit, or: kill {Environment.ProcessId}\r\n");
    }
}
