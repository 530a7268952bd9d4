using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Hw.Char;
using Qkvm.Hw.Isa;

namespace Qkvm.Machines;

/// <summary>The devices that the configuration and the monitor ask for.</summary>
public abstract partial class Board
{
    /// <summary>Nanoseconds that a guest has to answer before it may be asked again.</summary>
    const long UnplugPatience = 5_000_000_000;

    /// <summary>What the chipset has for devices that come and go, if anything.</summary>
    private protected AcpiHotPlug? HotPlug { get; init; }

    /// <summary>device_add.</summary>
    public void AddDevice(DeviceConfig config)
    {
        if (config.Id is { } id && FindDevice(id) != null)
            throw new ConfigurationException($"{config.Owner}: Duplicate device ID '{id}'");
        if (_factory.HubFor(config) is { } hub) AddDevice(hub);
        DeviceFactory.Made made = _factory.Create(config, hot: true);
        Adopt(made, config);
        made.Device.Reset();
    }

    /// <summary>device_del: the device, after those on its buses; the guest is asked first where its bus lets
    /// it.</summary>
    public void RemoveDevice(string id)
    {
        QDevice node = FindDevice(id) ?? throw CommandException.DeviceNotFound(id);
        if (!node.Bus!.IsHotPluggable)
            throw new CommandException($"Bus '{node.Bus.Name}' does not support hotplugging");
        if (node.Site == null || !node.IsHotPluggable)
            throw new CommandException($"Device '{node.Driver}' does not support hotplugging");
        if (node.Device?.Facet<IMemoryDevice>() is { WhyKept: { } why }) throw new CommandException(why);
        if (node.Bus.Wires is PciBus && node.UnplugAsked is { } asked && Clock.Nanoseconds - asked < UnplugPatience)
            throw new CommandException($"Device {id} is already in the process of unplug");
        if (node.Bus.Wires?.RequestUnplug(node.Device!) == true) node.UnplugAsked = Clock.Nanoseconds;
        else Remove(node);
    }

    public void Eject(IDevice device) => _requests.RequestStill(() =>
    {
        if (AllDevices.FirstOrDefault(node => node.Device == device) is { Site: not null } node) Remove(node);
    });

    QDevice? FindDevice(string id) => AllDevices.FirstOrDefault(node => node.Id == id);

    /// <summary>Of ACPI's \_SB.</summary>
    internal Aml[] HotPlugTerms() => HotPlug?.Terms() ?? [];

    internal bool HasHotPlug => HotPlug != null;

    /// <summary>Whether device_del may name it.</summary>
    internal bool IsHotPluggable(IDevice device) =>
        Tree.AllDevices.FirstOrDefault(node => node.Device == device) is { Site: not null, IsHotPluggable: true };

    /// <summary>With a reset goes what the guest was asked for and did not give.</summary>
    void RemoveLeaving()
    {
        foreach (IDevice device in HotPlug?.Leaving.ToArray<IDevice>() ?? [])
            if (Tree.AllDevices.FirstOrDefault(node => node.Device == device) is { Site: not null } node) Remove(node);
    }

    void Remove(QDevice node)
    {
        QDevice[] below = [.. node.Bus!.Devices.Where(other => other.Device != null
            && node.Bus.Wires?.Below(node.Device!).Contains(other.Device) == true)];
        foreach (QDevice other in below.Reverse()) Remove(other);
        foreach (QDevice gone in node.All.Reverse().ToArray())
        {
            _devices.Remove(gone.Device!);
            gone.Bus!.Remove(gone);
            gone.Site!.Dispose();
            if (gone.Id != null) Raise(new DeviceDeletedEvent(gone.Id, $"/machine/peripheral/{gone.Id}"));
        }
    }

    /// <summary>With the PC's ports.</summary>
    protected void MakeDevices() => MakeDevices(IsaSerial.Places, ParallelPort.Places);

    /// <summary>-device, then -serial, -parallel and -debugcon.</summary>
    /// <param name="serialPorts">That there can be; null: what would be at them is left alone.</param>
    protected void MakeDevices(int? serialPorts, int parallelPorts)
    {
        foreach (DeviceConfig config in Config.Devices)
        {
            if (config.Id is { } id && FindDevice(id) != null)
                throw new ConfigurationException($"{config.Owner}: Duplicate ID '{id}' for device");
            Make(config);
        }
        if (serialPorts is { } serials) MakePorts(IsaSerial.Model, "-serial", Config.Serials, serials);
        MakePorts(ParallelPort.Model, "-parallel", Config.Parallels, parallelPorts);
        if (Config.DebugCon is { } debug)
            Make(new DeviceConfig(Debugcon.Model.Name, null, [new("chardev", debug)], "-debugcon"));
    }

    void MakePorts(DeviceModel model, string option, IReadOnlyList<string?> chardevs, int places)
    {
        for (int i = 0; i < chardevs.Count; i++)
        {
            if (chardevs[i] is not { } chardev) continue;
            if (i >= places) throw new ConfigurationException($"{option}: the machine has {places} such ports");
            Make(new DeviceConfig(model.Name, null, [new("index", $"{i}"), new("chardev", chardev)],
                $"{option} {chardev}"));
        }
    }

    void Make(DeviceConfig config)
    {
        if (_factory.HubFor(config) is { } hub) Make(hub);
        Adopt(_factory.Create(config), config);
    }

    void Adopt(DeviceFactory.Made made, DeviceConfig config)
    {
        var node = new QDevice(made.Model.Name, config.Id, made.Device, made.Values, made.Site)
            { IsHotPluggable = made.Model.IsHotPluggable };
        _devices.Add(made.Device);
        made.Site.Bus.Add(node);
        if (made.BootIndex is not { } index) return;
        string path = node.BootPath + made.Device.BootPathEnd;
        BootOrder.Add(index, path);
        made.Site.OnLeave(() => BootOrder.Remove(path));
    }
}
