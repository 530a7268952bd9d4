using Qkvm.Control.Gdb;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>Turns options into a <see cref="MachineConfig"/>: every short form becomes the backend, frontend and bus
/// records that -blockdev, -chardev, -netdev and -device make. Pure: opens nothing, changes nothing.</summary>
/// <remarks>Partial, by subject: Machine, Drives, Characters, Network, Displays, Sound.</remarks>
public sealed partial class Expander
{
    readonly string _program;
    readonly Action<string> _warn;
    MachineConfig _config = new();
    readonly List<DeviceConfig> _devices = [];
    int _onBoard;                                                  // how many of them the board brings, at the front
    bool _noDefaults, _noGraphic;
    DefaultDevice _replaced;                                       // by what -device names

    Expander(string program, Action<string> warn) => (_program, _warn) = (program, warn);

    /// <param name="program">The name that the program was called by: qemu-system-i386 has another default CPU.</param>
    /// <param name="warn">Hears of what is taken and has no effect; null drops it.</param>
    /// <exception cref="ConfigurationException">Names the option, what is wrong and what would be right.</exception>
    public static MachineConfig Expand(IReadOnlyList<GivenOption> options, string program = "qkvm",
        Action<string>? warn = null)
    {
        var expander = new Expander(program, warn ?? (_ => { }));
        foreach (GivenOption option in options) expander.Take(option);
        return expander.Finish();
    }

    void Take(GivenOption option)
    {
        string argument = option.Argument ?? "", owner = option.ToString();
        switch (option.Name)
        {
            case "": AddDrive(new DriveSpec(new Options($"disk '{argument}'")) { File = argument, Index = 0 }); break;
            case "hda" or "hdb" or "hdc" or "hdd":
                AddDrive(new DriveSpec(new Options(owner)) { File = argument, Index = option.Name[2] - 'a' });
                break;
            case "cdrom": AddDrive(new DriveSpec(new Options(owner)) { File = argument, Index = 2,
                IsCdrom = true }); break;
            case "fda" or "fdb":
                AddDrive(new DriveSpec(new Options(owner)) { File = argument, Index = option.Name[2] - 'a',
                    Interface = Floppy });
                break;
            case "drive": AddDrive(argument, owner); break;
            case "blockdev": AddBlockdev(argument, owner); break;
            case "snapshot": _snapshot = true; break;
            case "cloud-init": TakeCloudInit(argument, owner); break;
            case "pflash":
                AddDrive(new DriveSpec(new Options(owner)) { File = argument, Interface = Flash });
                break;

            case "device": AddDevice(argument, owner); break;
            case "global": AddGlobal(argument, owner); break;
            case "object": AddObject(argument, owner); break;

            case "tpmdev": AddTpm(argument, owner); break;

            case "fsdev": AddFolder(argument, owner); break;
            case "virtfs": AddShare(argument, owner); break;

            case "netdev": AddNetdev(argument, owner); break;
            case "nic": AddNic(argument, owner); break;
            case "net": AddNet(argument, owner); break;

            case "chardev": AddChardev(argument, owner); break;
            case "serial": _serials.Add((argument, owner)); break;
            case "parallel": _parallels.Add((argument, owner)); break;
            case "monitor": _monitors.Add((argument, MonitorKind.Human, owner)); break;
            case "qmp": _monitors.Add((argument, MonitorKind.Control, owner)); break;
            case "qmp-pretty": _monitors.Add((argument, MonitorKind.PrettyControl, owner)); break;
            case "debugcon": _config = _config with { DebugCon = CharacterOf(argument, "debugcon", owner) }; break;
            case "mon": AddMonitor(argument, owner); break;
            case "gdb": _gdb = (argument, owner); break;
            case "metrics": AddMetrics(argument, owner); break;
            case "s": _gdb = (GdbServer.DefaultDevice, owner); break;

            case "audiodev": AddAudiodev(argument, owner); break;
            case "audio": TakeAudio(argument, owner); break;
            case "soundhw": throw new ConfigurationException($"{owner}: the option -soundhw was removed in QEMU 7.1; "
                + $"write -audio driver=wav,path=FILE,model={argument}, or -audiodev and -device");

            case "display": AddDisplay(argument, owner); break;
            case "vnc": AddVnc(argument, owner); break;
            case "nographic": TakeNoGraphic(); break;
            case "full-screen": _isFullScreen = true; break;
            case "g": _geometry = (argument, owner); break;
            case "sdl" or "curses" or "no-frame" or "alt-grab" or "ctrl-grab" or "no-quit":
                throw RemovedDisplayOption(option.Name, owner);
            case "vga": TakeVga(argument, owner); break;

            case "usb": _usb = owner; break;
            case "usbdevice": AddUsbDevice(argument, owner); break;

            case "nodefaults": _noDefaults = true; break;
            default: TakeMachineOption(option.Name, argument, owner); break;
        }
    }

    void AddDevice(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "driver");
        string driver = options.Text("driver")
            ?? throw new ConfigurationException($"{owner}: names no driver: -device driver[,prop=value…]");
        string? id = options.Text("id");
        Identifier.Check(id, owner);
        string brief = $"-device {driver}{(id == null ? "" : $",id={id}")}";
        _devices.Add(new DeviceConfig(driver, id, options.Rest, brief));
        _replaced |= Catalogue.Devices.Find(driver)?.Replaces ?? DefaultDevice.None;
    }

    /// <summary>driver.property=value, or driver=…,property=…,value=….</summary>
    void AddGlobal(string text, string owner)
    {
        int dot = text.IndexOf('.'), equals = text.IndexOf('=');
        GlobalConfig global;
        if (text.StartsWith("driver=", StringComparison.Ordinal))
        {
            Options options = Options.Parse(text, owner);
            global = new GlobalConfig(options.Required("driver"), options.Required("property"),
                options.Required("value"));
            options.Close();
        }
        else if (dot > 0 && equals > dot) global = new GlobalConfig(text[..dot], text[(dot + 1)..equals],
            text[(equals + 1)..]);
        else throw new ConfigurationException($"{owner}: expects driver.property=value");
        _config = _config with { Globals = [.. _config.Globals, global] };
    }

    void AddObject(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "qom-type");
        string type = options.Text("qom-type") ?? throw new ConfigurationException($"{owner}: names no type");
        string id = options.Required("id");
        Identifier.Check(id, owner);
        _config = _config with { Objects = [.. _config.Objects, new ObjectConfig(type, id, options)] };
    }

    void AddTpm(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "type");
        string type = Catalogue.Tpms.Known(options.Text("type") ?? "", owner).Name;
        string id = options.Required("id");
        Identifier.Check(id, owner);
        if (_config.Tpms.Count > 0)
            throw new ConfigurationException($"{owner}: Only one TPM is allowed; leave this one out");
        _config = _config with { Tpms = [new TpmConfig(id, type, options)] };
    }

    MachineConfig Finish()
    {
        _machine = Catalogue.Machines.Known(_machineName);
        if (_machine is { Defaults.HasDevices: false }) _noDefaults = true;
        AddCloudInit();
        MakeDrives();
        FinishUsb();
        FinishDisplays();
        FinishCharacters();
        FinishDrives();
        FinishNetwork();
        FinishSound();
        FinishMachine();
        return _config with { Devices = [.. _devices] };
    }
}
