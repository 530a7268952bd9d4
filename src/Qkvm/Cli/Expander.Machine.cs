using System.Globalization;
using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Backends.Objects;
using Qkvm.Core.Machine;
using Qkvm.Machines;
using Qkvm.Machines.Pc;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    readonly List<AcceleratorConfig> _accelerators = [];
    Options _machineOptions = new("-machine pc");
    MachineModel? _machine;                                        // null for one that nobody knows
    string _machineName = PcMachine.Model.Name;
    CpuConfig? _cpu;
    string? _kernel, _initrd, _append;
    string? _bios;
    ulong? _memory;                                                // bytes, where -m gives them
    string? _memoryPath;
    (string Text, string Owner)? _topology;                        // read last: what it leaves open is the machine's
    readonly List<string> _searchPaths = [];

    void TakeMachineOption(string name, string argument, string owner)
    {
        switch (name)
        {
            case "machine" or "M": TakeMachine(argument, owner); break;
            case "accel": TakeAccelerator(argument, owner); break;
            case "enable-kvm": _accelerators.Add(new AcceleratorConfig(KvmAccelerator.Model.Name,
                new Options(owner))); break;
            case "cpu": _config = _config with { Cpu = _cpu = TakeCpu(argument, owner) }; break;
            case "smp": _topology = (argument, owner); break;
            case "m": TakeMemory(argument, owner); break;
            case "mem-prealloc": _config = _config with { Memory = _config.Memory
                with { IsPreallocated = true } }; break;
            case "mem-path": _memoryPath = argument; break;
            case "name": TakeName(argument, owner); break;
            case "msg": TakeMessages(argument, owner); break;
            case "overcommit": TakeOvercommit(argument, owner); break;
            case "k": TakeKeyboard(argument, owner); break;
            case "echr": TakeEscape(argument, owner); break;
            case "uuid":
                _config = _config with
                {
                    Uuid = Guid.TryParse(argument, out Guid uuid) ? uuid
                        : throw new ConfigurationException($"{owner}: not a UUID; write " +
                        "12345678-1234-1234-1234-123456789abc"),
                };
                break;
            case "boot": _config = _config with { Boot = TakeBoot(argument, owner) }; break;
            case "rtc": _config = _config with { Rtc = TakeRtc(argument, owner) }; break;
            case "kernel": _kernel = argument; break;
            case "initrd": _initrd = argument; break;
            case "append": _append = argument; break;
            case "bios": _bios = argument; break;
            case "L": _searchPaths.Add(argument); break;
            case "S": _config = _config with { StartPaused = true }; break;
            case "no-reboot": Act(a => a with { Reboot = RebootAction.Shutdown }); break;
            case "no-shutdown": Act(a => a with { Shutdown = ShutdownAction.Pause }); break;
            case "no-hpet": _config = _config with { Hpet = false }; break;
            case "no-acpi": _config = _config with { Acpi = false }; break;
            case "action": TakeAction(argument, owner); break;
            case "watchdog-action": TakeAction($"watchdog={argument}", owner); break;
            case "smbios": AddSmbios(argument, owner); break;
            case "acpitable":
                _config = _config with { AcpiTables = [.. _config.AcpiTables, Options.Parse(argument, owner)] };
                break;
            case "fw_cfg": AddFwCfg(argument, owner); break;
            case "d": _config = _config with { LogItems = [.. _config.LogItems, .. argument.Split(',')] }; break;
            case "dfilter": _config = _config with { LogFilters = [.. _config.LogFilters, argument] }; break;
            case "trace": TakeTrace(argument, owner); break;
            case "D": _config = _config with { LogFile = argument }; break;
            case "perfmap": _config = _config with { PerfMap = true }; break;
            case "add-fd": AddFd(argument, owner); break;
            case "sandbox": TakeSandbox(argument, owner); break;
            case "chroot": _config = _config with { Root = new NamedOption(argument, owner) }; break;
            case "runas": _config = _config with { RunAs = new NamedOption(argument, owner) }; break;
            case "run-with": TakeRunWith(argument, owner); break;
            case "pidfile": _config = _config with { PidFile = argument }; break;
            case "daemonize": _config = _config with { Daemonize = true }; break;
            case "incoming": _config = _config with { Incoming = argument }; break;
            case "loadvm": _config = _config with { LoadVm = argument }; break;
            case "gdb": _config = _config with { GdbChardev = argument }; break;
            case "s": _config = _config with { GdbChardev = "tcp::1234" }; break;
        }
    }

    /// <summary>file= is -D's, as in QEMU where the log takes the trace events.</summary>
    void TakeTrace(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "enable");
        if (options.Text("enable") is { } pattern)
            _config = _config with { TracePatterns = [.. _config.TracePatterns, pattern] };
        if (options.Text("events") is { } list) _config = _config with { TraceLists = [.. _config.TraceLists, list] };
        if (options.Text("file") is { } file) _config = _config with { LogFile = file };
        options.Close();
    }

    void TakeMachine(string text, string owner)
    {
        Options given = Options.Parse(text, owner, "type");
        if (given.Text("type") is { Length: > 0 } type) _machineName = type;
        // Later ones add to earlier ones. Users write kernel_irqchip for kernel-irqchip.
        _machineOptions = Options.Of(owner, [.. _machineOptions.Rest, .. given.Rest.Select(p => p
            with { Name = p.Name.Replace('_', '-') })]);
        if (_machineOptions.Text("accel") is { } accelerators)
            AddAccelerators(accelerators.Split(':'), owner);
        _config = _config with { KernelIrqChip = _machineOptions.Text("kernel-irqchip") ?? _config.KernelIrqChip };
    }

    /// <summary>Of several, those that nobody knows are passed over: programs name what newer versions have.</summary>
    void AddAccelerators(string[] names, string owner)
    {
        foreach (string name in names)
            if (names.Length == 1 || Catalogue.Accelerators.Known(name) != null)
                AddAccelerator(name, new Options(owner));
            else _warn($"{owner}: there is no accelerator '{name}'; the others are tried");
        if (_accelerators.Count == 0) AddAccelerator(names[0], new Options(owner));
    }

    void TakeAccelerator(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "accel");
        AddAccelerator(options.Text("accel") ?? "", options);
    }

    void AddAccelerator(string name, Options options) =>
        _accelerators.Add(new AcceleratorConfig(Catalogue.Accelerators.Known(name, options.Owner).Name, options));

    static CpuConfig TakeCpu(string text, string owner)
    {
        string[] parts = text.Split(',');
        var features = new List<KeyValuePair<string, bool>>();
        var properties = new List<OptionPair>();
        foreach (string part in parts.Skip(1))
        {
            int equals = part.IndexOf('=');
            if (part.Length == 0) continue;
            if (part[0] is '+' or '-') features.Add(new(part[1..], part[0] == '+'));
            else if (equals < 0) features.Add(new(part, true));
            else if (part[(equals + 1)..] is "on" or "off" or "yes" or "no" or "true" or "false")
                features.Add(new(part[..equals], part[(equals + 1)..] is "on" or "yes" or "true"));
            else properties.Add(new OptionPair(part[..equals], part[(equals + 1)..]));
        }
        if (parts[0].Length == 0) throw new ConfigurationException($"{owner}: names no model; '-cpu help' lists them");
        return new CpuConfig(parts[0]) { Features = features, Properties = properties };
    }

    static CpuTopology TakeTopology(string text, string owner, bool prefersSockets)
    {
        const int Most = 512;
        Options options = Options.Parse(text, owner, "cpus");
        int? cpus = options.Int("cpus", 1, Most), sockets = options.Int("sockets", 1, Most),
            dies = options.Int("dies", 1, Most);
        int? cores = options.Int("cores", 1, Most), threads = options.Int("threads", 1, Most),
            max = options.Int("maxcpus", 1, Most);
        options.Int("clusters", 1, 1);
        options.Close();
        long product = (long)(sockets ?? 1) * (dies ?? 1) * (cores ?? 1) * (threads ?? 1);
        if (product > int.MaxValue)
            throw new ConfigurationException($"{owner}: {product} CPUs; at most {Most} are possible");
        // What is missing follows from the rest, cores before sockets before threads; before QEMU 6.2, sockets first.
        int d = dies ?? 1, t = threads ?? 1;
        int known = max ?? cpus ?? (sockets ?? 1) * d * (cores ?? 1) * t;
        int c = cores ?? Math.Max(1, known / ((sockets ?? 1) * d * t));
        int left = Math.Max(1, known / (d * t));
        if (cores == null && sockets == null) (c, sockets) = prefersSockets ? (1, left) : (left, 1);
        int s = sockets ?? Math.Max(1, known / (d * c * t));
        if (threads == null && cores != null && sockets != null) t = Math.Max(1, known / (s * d * c));
        int n = cpus ?? known, total = s * d * c * t;
        if (total != (max ?? n)
            && (max != null || total < n || cpus == null || sockets != null || cores != null || threads != null)
            && total != Math.Max(n, max ?? n))
            throw new ConfigurationException($"{owner}: product of sockets ({s}) * dies ({d}) * cores ({c}) * " +
                $"threads ({t}) is {total}, not {Math.Max(n, max ?? n)} CPUs");
        if (n > (max ?? n)) throw new ConfigurationException($"{owner}: cpus={n} is more than maxcpus={max}");
        return new CpuTopology(n, s, d, c, t, max ?? total);
    }

    void TakeMemory(string text, string owner)
    {
        const ulong Megabyte = 1 << 20;
        const int MostSlots = 256;
        Options options = Options.Parse(text, owner, "size");
        ulong size = (ulong?)options.Size("size", Megabyte) ?? 128 * Megabyte;
        ulong max = (ulong?)options.Size("maxmem") ?? 0;
        int slots = options.Int("slots", 0, int.MaxValue) ?? 0;
        options.Close();
        if (size < Megabyte)
            throw new ConfigurationException($"{owner}: {size} bytes of memory are too little; write for example -m " +
                "512M");
        if (slots > 0 && max == 0) throw new ConfigurationException($"{owner}: slots specified but no max-size; give "
            + "maxmem=, all that there may be");
        if (max != 0 && max < size)
            throw new ConfigurationException($"{owner}: invalid value of maxmem: maximum memory size (0x{max:x}) must "
                + $"be at least the initial memory size (0x{size:x})");
        if (slots > 0 && max == size)
            throw new ConfigurationException($"{owner}: invalid value of maxmem: memory slots were specified but "
                + $"maximum memory size (0x{max:x}) is equal to the initial memory size (0x{size:x})");
        if (slots > MostSlots)
            throw new ConfigurationException($"{owner}: unsupported amount of memory slots: {slots}; {MostSlots} are "
                + "possible");
        if (max % 4096 != 0)
            throw new ConfigurationException($"{owner}: maximum memory size must by aligned to multiple of 4096 bytes");
        _memory = (size + 8191) / 8192 * 8192;
        _config = _config with { Memory = _config.Memory with { Size = _memory.Value, MaxSize = max, Slots = slots } };
    }

    void TakeName(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "guest");
        _config = _config with { Name = options.Text("guest") ?? _config.Name, ProcessName = options.Text("process")
            ?? _config.ProcessName };
        options.Bool("debug-threads");                             // threads have names in any case
        options.Close();
    }

    void TakeMessages(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        _config = _config with { HasTimestamps = options.Bool("timestamp") ?? _config.HasTimestamps,
            NamesGuest = options.Bool("guest-name") ?? _config.NamesGuest };
        options.Close();
    }

    void TakeOvercommit(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        _config = _config with { LocksMemory = options.Bool("mem-lock") ?? _config.LocksMemory };
        if (options.Bool("cpu-pm") == true) throw options.Error("cpu-pm=on is not built yet; leave it out");
        options.Close();
    }

    static void TakeKeyboard(string layout, string owner)
    {
        if (layout != "en-us") throw new ConfigurationException($"{owner}: the layout '{layout}' is not built yet; "
            + "en-us is what there is");
    }

    /// <summary>A character by its number, decimal or 0x hexadecimal.</summary>
    void TakeEscape(string text, string owner)
    {
        if (!Properties.TryParseNumber(text, out ulong code) || code is 0 or > 127)
            throw new ConfigurationException($"{owner}: expects a character's number from 1 to 127, such as 0x14 for "
                + "ctrl-t");
        _config = _config with { Escape = (byte)code };
    }

    static BootConfig TakeBoot(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "order");
        string order = options.Text("order") ?? "cad";
        string? once = options.Text("once");
        foreach (char letter in order + once)
            if (letter is < 'a' or > 'p')
                throw new ConfigurationException($"{owner}: '{letter}' is no boot device: use a (floppy), c (disk), " +
                    "d (CD-ROM), n (network)");
        var boot = new BootConfig(order, once, options.Bool("menu") ?? false, options.Bool("strict") ?? false)
        {
            Splash = options.Text("splash"),
            SplashTime = (ushort?)options.Int("splash-time", 0, 65535),
            RebootTimeout = options.Text("reboot-timeout") is { } timeout ? int.TryParse(timeout, out int ms)
                && ms is >= -1 and <= 65535 ? ms
                : throw new ConfigurationException($"{owner}: reboot-timeout={timeout}: expects -1 to 65535 " +
                "milliseconds") : null,
        };
        options.Close();
        return boot;
    }

    static RtcConfig TakeRtc(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        string start = options.Text("base") ?? "utc";
        RtcClock clock = options.Text("clock") switch
        {
            null or "host" => RtcClock.Host,
            "rt" => RtcClock.RealTime,
            "vm" => RtcClock.Virtual,
            string other => throw new ConfigurationException($"{owner}: clock={other}: expects host, rt or vm"),
        };
        if (options.Text("driftfix") is { } fix
            and not ("none" or "slew")) throw new ConfigurationException($"{owner}: driftfix={fix}: expects none or "
                + "slew");
        options.Close();
        if (start == "utc") return new RtcConfig(RtcBase.Utc, default, clock);
        if (start == "localtime") return new RtcConfig(RtcBase.LocalTime, default, clock);
        string[] forms = ["yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd"];
        if (!DateTime.TryParseExact(start, forms, CultureInfo.InvariantCulture, DateTimeStyles.None, out DateTime date))
            throw new ConfigurationException($"{owner}: base={start}: expects utc, localtime, 2026-01-31 or " +
                "2026-01-31T12:30:00");
        return new RtcConfig(RtcBase.Date, date, clock);
    }

    void TakeAction(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        Act(actions => new(OneOf(options, "reboot", actions.Reboot), OneOf(options, "shutdown", actions.Shutdown),
            OneOf(options, "panic", actions.Panic), OneOf(options, "watchdog", actions.Watchdog)));
        options.Close();
    }

    void Act(Func<GuestActions, GuestActions> change) => _config = _config with { Actions = change(_config.Actions) };

    /// <summary>A member of an enumeration by QEMU's name; what it was where nothing is said.</summary>
    static T OneOf<T>(Options options, string name, T now) where T : struct, Enum
    {
        if (options.Text(name) is not { } value) return now;
        string[] known = [.. Enum.GetNames<T>().Select(System.Text.Json.JsonNamingPolicy.KebabCaseLower.ConvertName)];
        int index = Array.IndexOf(known, value);
        return index >= 0 ? Enum.GetValues<T>()[index]
            : throw options.Error($"{name}={value}: expects {string.Join(", ", known)}");
    }

    void AddSmbios(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        int? type = options.Int("type", 0, 255);
        string? file = options.Text("file");
        if (type == null && file == null) throw new ConfigurationException($"{owner}: needs type= or file=");
        _config = _config with { Smbios = [.. _config.Smbios, new SmbiosConfig(type, file, [.. options.Rest])] };
    }

    void AddFwCfg(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "name");
        string? name = options.Text("name"), file = options.Text("file"), content = options.Text("string");
        options.Close();
        if (string.IsNullOrEmpty(name) || (file == null) == (content == null))
            throw new ConfigurationException($"{owner}: expects name=opt/…, and file= or string=");
        _config = _config with { FwCfg = [.. _config.FwCfg, new FwCfgConfig(name, file, content)] };
    }

    void FinishMachine()
    {
        if (_kernel == null && (_initrd ?? _append) != null)
            throw new ConfigurationException($"{(_initrd != null ? $"-initrd {_initrd}" : "-append")}: only allowed " +
                "with -kernel");
        if (_accelerators.Count == 0) _accelerators.Add(new AcceleratorConfig(TcgAccelerator.Model.Name));
        if (_memory == null && _machineOptions.Text("memory-backend") is { } id
            && _config.Objects.FirstOrDefault(o => o.Id == id)?.Options.Size("size") is { } size)
            _config = _config with { Memory = _config.Memory with { Size = (ulong)size } };
        if (_memoryPath is { } path) AddMemoryFile(path);
        if (_topology is { } topology) _config = _config with { Topology = TakeTopology(topology.Text, topology.Owner,
            _machine?.Defaults.PrefersSockets ?? false) };
        if (_machine is { } machine && _config.Topology.MaxCpus > machine.Defaults.MaxCpus)
            throw new ConfigurationException($"{_topology?.Owner}: Invalid SMP CPUs {_config.Topology.MaxCpus}. The "
                + $"max CPUs supported by machine '{machine.Name}' is {machine.Defaults.MaxCpus}");
        if (_cpu == null && _program.Contains("i386", StringComparison.Ordinal)) _config = _config
            with { Cpu = new CpuConfig("qemu32") };
        if (_cpu == null && _machine?.Defaults.Cpu is { } own) _config = _config with { Cpu = new CpuConfig(own) };
        _config = _config with
        {
            MachineType = _machine?.Name ?? _machineName,
            MachineOptions = _machineOptions,
            Accelerators = [.. _accelerators],
            Kernel = _kernel == null ? null : new KernelConfig(_kernel, _initrd, _append ?? ""),
            Firmware = new FirmwareConfig(_bios) { SearchPaths = [.. _searchPaths] },
        };
    }

    /// <summary>-mem-path is short for an object of the size that -m gives.</summary>
    void AddMemoryFile(string path)
    {
        const string Id = "pc.ram";
        string owner = $"-mem-path {path}";
        if (_machineOptions.Text("memory-backend") is { } other)
            throw new ConfigurationException($"{owner}: cannot be used together with -machine memory-backend={other}; "
                + "leave one of them out");
        _config = _config with { Objects = [.. _config.Objects, new ObjectConfig(MemoryBackendFile.Model.Name, Id,
            Options.Of(owner, [new("size", $"{_config.Memory.Size}"), new("mem-path", path)]))] };
        _machineOptions = Options.Of(_machineOptions.Owner, [.. _machineOptions.Rest, new("memory-backend", Id)]);
    }

    void AddFd(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        options.Required("fd");
        options.Required("set");
        var fd = new FdConfig(options.Int("fd", 3, int.MaxValue)!.Value, options.Int("set", 0, int.MaxValue)!.Value,
            options.Text("opaque"), owner);
        options.Close();
        _config = _config with { Fds = [.. _config.Fds, fd] };
    }
}
