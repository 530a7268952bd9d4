using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Hw.Char;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Storage;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>The devices that the configuration asks for.</summary>
public sealed partial class PcBoard
{
    static readonly (ushort Port, int Irq)[] ComPorts = [(0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)];
    static readonly (ushort Port, int Irq)[] PrinterPorts = [(0x378, 7), (0x278, 5), (0x3BC, 7)];

    readonly List<(ushort Port, int Irq)> _serials = [];
    readonly List<(ushort Port, int Irq)> _parallels = [];
    Properties? _panic;                                            // the first one's, for ACPI
    readonly BlockBackend?[] _ideDisks = new BlockBackend?[4];

    /// <summary>device_add.</summary>
    public void AddDevice(DeviceConfig config)
    {
        if (config.Id is { } id && Tree.FindDevice(id) != null)
            throw new ConfigurationException($"{config.Owner}: Duplicate device ID '{id}'");
        DeviceFactory.Made made = _factory.Create(config, hot: true);
        Adopt(made, config);
        made.Device.Reset();
    }

    /// <summary>device_del.</summary>
    public void RemoveDevice(string id)
    {
        (QBus bus, QDevice node) = Tree.FindDevice(id) ?? throw CommandException.DeviceNotFound(id);
        if (!bus.Kind.IsHotPluggable) throw new CommandException($"Bus '{bus.Name}' does not support hotplugging");
        if (node.Site is not { } site || !node.IsHotPluggable)
            throw new CommandException($"Device '{node.Driver}' does not support hotplugging");
        _devices.Remove(node.Device!);
        bus.Devices.Remove(node);
        site.Dispose();
    }

    void MakeDevices()
    {
        foreach (DeviceConfig config in _config.Devices)
        {
            if (config.Id is { } id && Tree.FindDevice(id) != null)
                throw new ConfigurationException($"{config.Owner}: Duplicate ID '{id}' for device");
            Adopt(_factory.Create(config), config);
        }
        for (int i = 0; i < _config.Serials.Count; i++)
            if (_config.Serials[i] is { } chardev) MakePort(IsaSerial.Model, "-serial", i, chardev, ComPorts, _serials);
        for (int i = 0; i < _config.Parallels.Count; i++)
            if (_config.Parallels[i] is { } chardev) MakePort(ParallelPort.Model, "-parallel", i, chardev, PrinterPorts,
                _parallels);
        if (_config.DebugCon is { } debug)
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
        _devices.Add(made.Device);
        NodeFor(made).Devices.Add(new QDevice(made.Model.Name, config.Id, made.Device, made.Values, made.Site)
            { IsHotPluggable = made.Model.IsHotPluggable });
        if (made.Model == Pvpanic.Model) _panic ??= made.Properties;
        if (made.Device is PciDevice function)
        {
            if (function.BootIndex is not { } index) return;
            string path = BootOrder.PathOf(function);
            _bootOrder.Add(index, path);
            made.Site.OnLeave(() => _bootOrder.Remove(path));
        }
        else if (made.Model.Bus == BusKind.Ide) AdoptIdeDrive(made);
    }

    /// <summary>The bus that bus= names, the drive's channel, or the first of its kind.</summary>
    QBus NodeFor(DeviceFactory.Made made) =>
        made.Model.Bus == BusKind.Ide ? FindBus(_ide.Channels[IdePlace(made.Device) / IdeChannel.Drives].Id)!
        : made.Properties.Text("bus") is { } bus ? FindBus(bus)!
        : Tree.Find(made.Model.Bus) ?? Tree;

    void AdoptIdeDrive(DeviceFactory.Made made)
    {
        int place = IdePlace(made.Device);
        if (made.Properties.NumberOrAuto("bootindex") is { } index)
            _bootOrder.Add(index, BootOrder.PathOfIde(_ide, place / IdeChannel.Drives, place % IdeChannel.Drives));
        if (made.Model == IdeModels.HardDisk && made.Properties.Text("drive") is { } drive) _ideDisks[place] =
            _backends.Drives[drive];
    }

    /// <summary>Channel * 2 + unit.</summary>
    int IdePlace(IDevice drive)
    {
        for (int place = 0; place < _ideDisks.Length; place++)
            if (_ide.Channels[place / IdeChannel.Drives][place % IdeChannel.Drives] == drive) return place;
        throw new InvalidOperationException($"{drive.Name} is on no channel");
    }

    ushort? PanicPort() => _panic is { } panic ? (ushort)panic.Number("ioport") : null;

    void DescribeInCmos()
    {
        PcCmos.Describe(_rtc, _memory, _config.Topology.Cpus);
        PcCmos.SetBootOrder(_rtc, _config.Boot.Once ?? _config.Boot.Order);
        PcCmos.DescribeDisks(_rtc, _ideDisks);
    }
}
