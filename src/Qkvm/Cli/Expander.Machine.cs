using System.Globalization;
using Qkvm.Accel.Kvm;
using Qkvm.Core.Machine;
using Qkvm.Machines;
using Qkvm.Machines.Pc;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    Options _machineOptions = new("-machine pc");
    MachineModel? _machine;                                        // null for one that nobody knows
    string _machineName = PcMachine.Model.Name;

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
            case "numa": _numa.Add((argument, owner)); break;
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
            case "rtc": _config = _config with { Rtc = TakeRtc(argument, owner) }; break;
            case "S": _config = _config with { StartPaused = true }; break;
            case "no-reboot": Act(a => a with { Reboot = RebootAction.Shutdown }); break;
            case "no-shutdown": Act(a => a with { Shutdown = ShutdownAction.Pause }); break;
            case "no-hpet": _config = _config with { Hpet = false }; break;
            case "no-acpi": _config = _config with { Acpi = false }; break;
            case "action": TakeAction(argument, owner); break;
            case "watchdog-action": TakeAction($"watchdog={argument}", owner); break;
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
            default: TakeFirmwareOption(name, argument, owner); break;
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
        _idlesInGuest = options.Bool("cpu-pm") == true ? owner : null;
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
    internal static T OneOf<T>(Options options, string name, T now) where T : struct, Enum
    {
        if (options.Text(name) is not { } value) return now;
        string[] known = [.. Enum.GetNames<T>().Select(System.Text.Json.JsonNamingPolicy.KebabCaseLower.ConvertName)];
        int index = Array.IndexOf(known, value);
        return index >= 0 ? Enum.GetValues<T>()[index]
            : throw options.Error($"{name}={value}: expects {string.Join(", ", known)}");
    }

    void FinishMachine()
    {
        FinishFirmware();
        FinishProcessors();
        FinishMemory();
        _config = _config with
        {
            MachineType = _machine?.Name ?? _machineName,
            MachineOptions = _machineOptions,
        };
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
