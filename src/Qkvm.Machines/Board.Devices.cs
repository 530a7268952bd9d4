using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Char;
using Qkvm.Hw.Isa;

namespace Qkvm.Machines;

/// <summary>The devices that the configuration and the monitor ask for.</summary>
public abstract partial class Board
{
    static readonly (ushort Port, int Irq)[] ComPorts = [(0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)];
    static readonly (ushort Port, int Irq)[] PrinterPorts = [(0x378, 7), (0x278, 5), (0x3BC, 7)];

    internal readonly List<(ushort Port, int Irq)> _serials = [];
    internal readonly List<(ushort Port, int Irq)> _parallels = [];
    Properties? _panic;                                            // the first one's, for ACPI

    /// <summary>device_add.</summary>
    public void AddDevice(DeviceConfig config)
    {
        if (config.Id is { } id && Tree.FindDevice(id) != null)
            throw new ConfigurationException($"{config.Owner}: Duplicate device ID '{id}'");
        DeviceFactory.Made made = _factory.Create(config, hot: true);
        Adopt(made, config);
        made.Device.Reset();
    }

    /// <summary>device_del: the device, after those on its buses.</summary>
    public void RemoveDevice(string id)
    {
        QDevice node = Tree.FindDevice(id) ?? throw CommandException.DeviceNotFound(id);
        if (!node.Bus!.IsHotPluggable)
            throw new CommandException($"Bus '{node.Bus.Name}' does not support hotplugging");
        if (node.Site == null || !node.IsHotPluggable)
            throw new CommandException($"Device '{node.Driver}' does not support hotplugging");
        foreach (QDevice gone in node.All.Reverse().ToArray())
        {
            _devices.Remove(gone.Device!);
            gone.Bus!.Remove(gone);
            gone.Site!.Dispose();
            if (gone.Id != null) Raise(new DeviceDeletedEvent(gone.Id, $"/machine/peripheral/{gone.Id}"));
        }
    }

    /// <summary>-device, then -serial, -parallel and -debugcon.</summary>
    protected void MakeDevices()
    {
        foreach (DeviceConfig config in Config.Devices)
        {
            if (config.Id is { } id && Tree.FindDevice(id) != null)
                throw new ConfigurationException($"{config.Owner}: Duplicate ID '{id}' for device");
            Make(config);
        }
        for (int i = 0; i < Config.Serials.Count; i++)
            if (Config.Serials[i] is { } chardev) MakePort(IsaSerial.Model, "-serial", i, chardev, ComPorts, _serials);
        for (int i = 0; i < Config.Parallels.Count; i++)
            if (Config.Parallels[i] is { } chardev) MakePort(ParallelPort.Model, "-parallel", i, chardev, PrinterPorts,
                _parallels);
        if (Config.DebugCon is { } debug)
            Make(new DeviceConfig(Debugcon.Model.Name, null, [new("chardev", debug)], "-debugcon"));
    }

    void MakePort(DeviceModel model, string option, int index, string chardev, (ushort, int)[] places,
        List<(ushort, int)> made)
    {
        if (index >= places.Length)
            throw new ConfigurationException($"{option}: the pc machine has {places.Length} such ports");
        Make(new DeviceConfig(model.Name, null, [new("index", $"{index}"), new("chardev", chardev)],
            $"{option} {chardev}"));
        made.Add(places[index]);
    }

    void Make(DeviceConfig config) => Adopt(_factory.Create(config), config);

    void Adopt(DeviceFactory.Made made, DeviceConfig config)
    {
        var node = new QDevice(made.Model.Name, config.Id, made.Device, made.Values, made.Site)
            { IsHotPluggable = made.Model.IsHotPluggable };
        foreach (QBus bus in made.Site.Buses) node.Add(bus);
        _devices.Add(made.Device);
        made.Site.Bus.Add(node);
        if (made.Model == Pvpanic.Model) _panic ??= made.Properties;
        if (made.BootIndex is not { } index) return;
        string path = node.BootPath + made.Device.BootPathEnd;
        BootOrder.Add(index, path);
        made.Site.OnLeave(() => BootOrder.Remove(path));
    }

    internal ushort? PanicPort() => _panic is { } panic ? (ushort)panic.Number("ioport") : null;
}
