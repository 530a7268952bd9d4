using System.Globalization;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    static readonly string[] AcceleratorNames = ["kvm", "tcg"];
    static readonly string[] ForeignAccelerators = ["xen", "hax", "hvf", "whpx", "nvmm", "qtest"];

    readonly List<AcceleratorConfig> _accelerators = [];
    string _machine = "pc";
    string? _kernel, _initrd, _append;
    string? _bios;
    readonly List<string> _searchPaths = [];

    /// <summary>Full machine name by what users type. Versioned names other than 7.2 are accepted as their newest.</summary>
    public static readonly (string Name, string? Alias, string Description)[] Machines =
    [
        ("pc-i440fx-7.2", "pc", "Standard PC (i440FX + PIIX, 1996) (default)"),
    ];

    bool IsI440Fx => !_machine.Contains("q35", StringComparison.Ordinal) && _machine is not ("none" or "microvm" or "isapc");

    void TakeMachineOption(string name, string argument, string owner)
    {
        switch (name)
        {
            case "machine" or "M": TakeMachine(argument, owner); break;
            case "accel": TakeAccelerator(argument, owner); break;
            case "enable-kvm": _accelerators.Add(new AcceleratorConfig("kvm")); break;
            case "cpu": _config = _config with { Cpu = TakeCpu(argument, owner) }; break;
            case "smp": _config = _config with { Topology = TakeTopology(argument, owner) }; break;
            case "m": _config = _config with { Memory = TakeMemory(argument, owner) }; break;
            case "name": _config = _config with { Name = new KeyValueList(argument, owner, "guest").Take("guest") ?? "" }; break;
            case "uuid":
                _config = _config with
                {
                    Uuid = Guid.TryParse(argument, out Guid uuid) ? uuid
                        : throw new ConfigurationException($"{owner}: not a UUID; write 12345678-1234-1234-1234-123456789abc"),
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
            case "no-reboot": _config = _config with { NoReboot = true }; break;
            case "no-shutdown": _config = _config with { NoShutdown = true }; break;
            case "no-hpet": _config = _config with { Hpet = false }; break;
            case "no-acpi": _config = _config with { Acpi = false }; break;
            case "action": TakeAction(argument, owner); break;
            case "smbios": AddSmbios(argument, owner); break;
            case "fw_cfg": AddFwCfg(argument, owner); break;
            case "d": _config = _config with { LogItems = [.. _config.LogItems, .. argument.Split(',')] }; break;
            case "D": _config = _config with { LogFile = argument }; break;
            case "perfmap": _config = _config with { PerfMap = true }; break;
            case "pidfile": _config = _config with { PidFile = argument }; break;
            case "daemonize": _config = _config with { Daemonize = true }; break;
            case "incoming": _config = _config with { Incoming = argument }; break;
            case "loadvm": _config = _config with { LoadVm = argument }; break;
            case "gdb": _config = _config with { GdbChardev = argument }; break;
            case "s": _config = _config with { GdbChardev = "tcp::1234" }; break;
        }
    }

    void TakeMachine(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "type");
        if (list.Take("type") is { Length: > 0 } type) _machine = type;
        if (list.Take("accel") is { } accelerators)
            foreach (string name in accelerators.Split(':')) AddAccelerator(name, [], owner);
        _config = _config with { MachineOptions = [.. _config.MachineOptions, .. list.Rest] };
    }

    void TakeAccelerator(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "accel");
        AddAccelerator(list.Take("accel") ?? "", list.Rest, owner);
    }

    void AddAccelerator(string name, IReadOnlyList<OptionPair> options, string owner)
    {
        if (Array.IndexOf(ForeignAccelerators, name) >= 0) return; // in a list to try, another host's entry is just not usable here
        if (Array.IndexOf(AcceleratorNames, name) < 0)
            throw new ConfigurationException($"{owner}: '{name}' is not an accelerator{Suggestion.For(name, AcceleratorNames)}; there are kvm and tcg");
        _accelerators.Add(new AcceleratorConfig(name) { Options = options });
    }

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

    static CpuTopology TakeTopology(string text, string owner)
    {
        const int Most = 255;
        var list = new KeyValueList(text, owner, "cpus");
        int? cpus = list.TakeInt("cpus", 1, Most), sockets = list.TakeInt("sockets", 1, Most), dies = list.TakeInt("dies", 1, Most);
        int? cores = list.TakeInt("cores", 1, Most), threads = list.TakeInt("threads", 1, Most), max = list.TakeInt("maxcpus", 1, Most);
        list.TakeInt("clusters", 1, 1);
        list.Close();
        // What is missing follows from the rest, cores before sockets before threads, as since QEMU 6.2.
        int d = dies ?? 1, t = threads ?? 1;
        int known = max ?? cpus ?? (sockets ?? 1) * d * (cores ?? 1) * t;
        int c = cores ?? Math.Max(1, known / ((sockets ?? 1) * d * t));
        if (cores == null && sockets == null) (c, sockets) = (Math.Max(1, known / (d * t)), 1);
        int s = sockets ?? Math.Max(1, known / (d * c * t));
        if (threads == null && cores != null && sockets != null) t = Math.Max(1, known / (s * d * c));
        int n = cpus ?? known, total = s * d * c * t;
        if (total != (max ?? n) && (max != null || total < n || cpus == null || sockets != null || cores != null || threads != null) && total != Math.Max(n, max ?? n))
            throw new ConfigurationException($"{owner}: product of sockets ({s}) * dies ({d}) * cores ({c}) * threads ({t}) is {total}, not {Math.Max(n, max ?? n)} CPUs");
        if (n > (max ?? n)) throw new ConfigurationException($"{owner}: cpus={n} is more than maxcpus={max}");
        return new CpuTopology(n, s, d, c, t, max ?? total);
    }

    static MemoryConfig TakeMemory(string text, string owner)
    {
        const ulong Megabyte = 1 << 20;
        var list = new KeyValueList(text, owner, "size");
        ulong size = Sizes.Parse(list.Take("size") ?? "128", Megabyte, owner);
        ulong max = list.Take("maxmem") is { } m ? Sizes.Parse(m, Megabyte, owner) : 0;
        int slots = list.TakeInt("slots", 0, 256) ?? 0;
        list.Close();
        if (size < Megabyte) throw new ConfigurationException($"{owner}: {size} bytes of memory are too little; write for example -m 512M");
        if (max != 0 && max < size) throw new ConfigurationException($"{owner}: maxmem is less than the size");
        return new MemoryConfig((size + 8191) / 8192 * 8192, max, slots);
    }

    static BootConfig TakeBoot(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "order");
        string order = list.Take("order") ?? "cad";
        string? once = list.Take("once");
        foreach (char letter in order + once)
            if (letter is < 'a' or > 'p') throw new ConfigurationException($"{owner}: '{letter}' is no boot device: use a (floppy), c (disk), d (CD-ROM), n (network)");
        var boot = new BootConfig(order, once, list.TakeBool("menu") ?? false, list.TakeBool("strict") ?? false)
        {
            Splash = list.Take("splash"),
            SplashTime = (ushort?)list.TakeInt("splash-time", 0, 65535),
            RebootTimeout = list.Take("reboot-timeout") is { } timeout ? int.TryParse(timeout, out int ms) && ms is >= -1 and <= 65535 ? ms
                : throw new ConfigurationException($"{owner}: reboot-timeout={timeout}: expects -1 to 65535 milliseconds") : null,
        };
        list.Close();
        return boot;
    }

    static RtcConfig TakeRtc(string text, string owner)
    {
        var list = new KeyValueList(text, owner);
        string start = list.Take("base") ?? "utc";
        RtcClock clock = list.Take("clock") switch
        {
            null or "host" => RtcClock.Host,
            "rt" => RtcClock.RealTime,
            "vm" => RtcClock.Virtual,
            string other => throw new ConfigurationException($"{owner}: clock={other}: expects host, rt or vm"),
        };
        if (list.Take("driftfix") is { } fix and not ("none" or "slew")) throw new ConfigurationException($"{owner}: driftfix={fix}: expects none or slew");
        list.Close();
        if (start == "utc") return new RtcConfig(RtcBase.Utc, default, clock);
        if (start == "localtime") return new RtcConfig(RtcBase.LocalTime, default, clock);
        string[] forms = ["yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd"];
        if (!DateTime.TryParseExact(start, forms, CultureInfo.InvariantCulture, DateTimeStyles.None, out DateTime date))
            throw new ConfigurationException($"{owner}: base={start}: expects utc, localtime, 2026-01-31 or 2026-01-31T12:30:00");
        return new RtcConfig(RtcBase.Date, date, clock);
    }

    void TakeAction(string text, string owner)
    {
        var list = new KeyValueList(text, owner);
        if (list.Take("reboot") is { } reboot) _config = _config with { NoReboot = OneOf(reboot, "shutdown", "reset", owner) };
        if (list.Take("shutdown") is { } shutdown) _config = _config with { NoShutdown = OneOf(shutdown, "pause", "poweroff", owner) };
        if (list.Take("panic") is { } panic) _config = _config with { PanicAction = panic };
        if (list.Take("watchdog") is { } watchdog) _config = _config with { WatchdogAction = watchdog };
        list.Close();
    }

    static bool OneOf(string value, string yes, string no, string owner) => value == yes || (value == no ? false
        : throw new ConfigurationException($"{owner}: '{value}': expects {yes} or {no}"));

    void AddSmbios(string text, string owner)
    {
        var list = new KeyValueList(text, owner);
        int? type = list.TakeInt("type", 0, 255);
        string? file = list.Take("file");
        if (type == null && file == null) throw new ConfigurationException($"{owner}: needs type= or file=");
        _config = _config with { Smbios = [.. _config.Smbios, new SmbiosConfig(type, file, list.Rest)] };
    }

    void AddFwCfg(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "name");
        string? name = list.Take("name"), file = list.Take("file"), content = list.Take("string");
        list.Close();
        if (string.IsNullOrEmpty(name) || (file == null) == (content == null))
            throw new ConfigurationException($"{owner}: expects name=opt/…, and file= or string=");
        _config = _config with { FwCfg = [.. _config.FwCfg, new FwCfgConfig(name, file, content)] };
    }

    void FinishMachine()
    {
        if (_kernel == null && (_initrd ?? _append) != null)
            throw new ConfigurationException($"{(_initrd != null ? $"-initrd {_initrd}" : "-append")}: only allowed with -kernel");
        if (_accelerators.Count == 0) _accelerators.Add(new AcceleratorConfig("tcg"));
        _config = _config with
        {
            MachineType = ResolveMachine(),
            Accelerators = [.. _accelerators],
            Kernel = _kernel == null ? null : new KernelConfig(_kernel, _initrd, _append ?? ""),
            Firmware = new FirmwareConfig(_bios) { SearchPaths = [.. _searchPaths] },
        };
    }

    string ResolveMachine()
    {
        foreach (var (name, alias, _) in Machines)
            if (_machine == name || _machine == alias) return name;
        return _machine is "q35" ? "pc-q35-7.2" : _machine;        // refused where it is built, with the list of machines
    }
}
