using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>Turns options into a <see cref="MachineConfig"/>: every short form becomes the backend, frontend and bus records
/// that -blockdev, -chardev, -netdev and -device make. Pure: opens nothing, changes nothing.</summary>
/// <remarks>Partial, by subject: Machine, Drives, Characters, Network, Displays.</remarks>
public sealed partial class Expander
{
    MachineConfig _config = new();
    readonly List<DeviceConfig> _devices = [];
    bool _noDefaults, _noGraphic;

    /// <exception cref="ConfigurationException">Names the option, what is wrong and what would be right.</exception>
    public static MachineConfig Expand(IReadOnlyList<GivenOption> options)
    {
        var expander = new Expander();
        foreach (GivenOption option in options) expander.Take(option);
        return expander.Finish();
    }

    void Take(GivenOption option)
    {
        string argument = option.Argument ?? "", owner = option.ToString();
        switch (option.Name)
        {
            case "": AddDrive(new DriveSpec { File = argument, Index = 0, Owner = $"disk '{argument}'" }); break;
            case "hda" or "hdb" or "hdc" or "hdd":
                AddDrive(new DriveSpec { File = argument, Index = option.Name[2] - 'a', Owner = owner });
                break;
            case "cdrom": AddDrive(new DriveSpec { File = argument, Index = 2, IsCdrom = true, Owner = owner }); break;
            case "drive": AddDrive(argument, owner); break;
            case "blockdev": AddBlockdev(argument, owner); break;
            case "snapshot": _snapshot = true; break;

            case "device": AddDevice(argument, owner); break;
            case "global": AddGlobal(argument, owner); break;
            case "object": AddObject(argument, owner); break;

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

            case "display": AddDisplay(argument, owner); break;
            case "vnc": AddVnc(argument, owner); break;
            case "nographic": _noGraphic = true; break;
            case "vga": _vga = TakeVga(argument, owner); break;

            case "nodefaults": _noDefaults = true; break;
            default: TakeMachineOption(option.Name, argument, owner); break;
        }
    }

    void AddDevice(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "driver");
        string driver = list.Take("driver") ?? throw new ConfigurationException($"{owner}: names no driver: -device driver[,prop=value…]");
        string? id = list.Take("id");
        CheckId(id, owner);
        _devices.Add(new DeviceConfig(driver, id, list.Rest, $"-device {driver}{(id == null ? "" : $",id={id}")}"));
        if (driver is "ide-cd" or "scsi-cd") _defaultCdrom = false;
        if (driver is "VGA" or "virtio-vga" or "virtio-gpu-pci" or "qxl-vga" or "cirrus-vga" or "vmware-svga" or "bochs-display" or "secondary-vga") _vgaByDevice = true;
        if (driver == "isa-serial") _serialByDevice = true;
    }

    void AddGlobal(string text, string owner)
    {
        int dot = text.IndexOf('.'), equals = text.IndexOf('=');
        if (dot <= 0 || equals < dot) throw new ConfigurationException($"{owner}: expects driver.property=value");
        _config = _config with { Globals = [.. _config.Globals, new GlobalConfig(text[..dot], text[(dot + 1)..equals], text[(equals + 1)..])] };
    }

    void AddObject(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "qom-type");
        string type = list.Take("qom-type") ?? throw new ConfigurationException($"{owner}: names no type");
        string id = list.Take("id") ?? throw new ConfigurationException($"{owner}: needs id=");
        _config = _config with { Objects = [.. _config.Objects, new ObjectConfig(type, id, list.Rest, owner)] };
    }

    static void CheckId(string? id, string owner)
    {
        if (id == null) return;
        bool good = id.Length > 0 && char.IsAsciiLetter(id[0]) && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_');
        if (!good) throw new ConfigurationException($"{owner}: id '{id}': identifiers consist of letters, digits, '-', '.', '_', starting with a letter");
    }

    MachineConfig Finish()
    {
        FinishDisplays();
        FinishCharacters();
        FinishDrives();
        FinishNetwork();
        FinishMachine();
        return _config with { Devices = [.. _devices] };
    }
}
