using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;

namespace Qkvm.Machines;

/// <summary>Makes devices from what users wrote: finds the model and the bus, checks the properties, plugs.</summary>
public sealed class DeviceFactory(IBoard board, QBus tree, QBus slots, Catalogue<DeviceModel> catalogue,
    IReadOnlyList<GlobalConfig> globals)
{
    /// <summary>A device that was made.</summary>
    public sealed record Made(DeviceModel Model, IDevice Device, Properties Properties, DeviceSite Site)
    {
        /// <summary>What `info qtree` shows.</summary>
        public IReadOnlyList<OptionPair> Values =>
            [.. Properties.Shown.Where(p => Model.Find(p.Name)!.Kind != PropertyKind.Bus)];

        /// <summary>Its place in the boot order, or null.</summary>
        public ulong? BootIndex => Model.Find("bootindex") == null ? null : Properties.NumberOrAuto("bootindex");
    }

    /// <summary>Makes and plugs it; where that fails, all that it had taken is free again.</summary>
    /// <param name="hot">The machine is running, or has run.</param>
    public Made Create(DeviceConfig config, bool hot = false)
    {
        DeviceModel model = catalogue.Get(config.Driver, config.Owner);
        var properties = new Properties(model, config.Properties, Globals(model, globals));
        QBus bus = BusFor(model, properties);
        if (hot && !bus.IsHotPluggable) throw properties.Error($"Bus '{bus.Name}' does not support hotplugging");
        if (hot && !model.IsHotPluggable)
            throw properties.Error($"Device '{model.Name}' does not support hotplugging");
        var site = new DeviceSite(board, config.Owner, bus, config.Id);
        try
        {
            IDevice device = model.Create(properties, site);
            bus.Wires?.Plug(device, properties, site);
            return new Made(model, device, properties, site);
        }
        catch
        {
            site.Dispose();
            throw;
        }
    }

    /// <summary>A hub for the last port of a bus, where a device comes that names no port: it has room for
    /// more.</summary>
    public DeviceConfig? HubFor(DeviceConfig config)
    {
        if (catalogue.Find(config.Driver) is not { NotBuilt: null } model || model.Bus != BusKind.Usb
            || model == UsbHub.Model || config.Properties.Has("port")) return null;
        var properties = new Properties(model, config.Properties, Globals(model, globals));
        QBus bus = BusFor(model, properties);
        return bus.Wires is UsbBus { IsNearlyFull: true }
            ? new DeviceConfig(UsbHub.Model.Name, null, [new("bus", bus.Name)], config.Owner) : null;
    }

    /// <summary>What -global says of a model: name, value and owner.</summary>
    public static IEnumerable<(string Name, string Value, string Owner)> Globals(DeviceModel model,
        IEnumerable<GlobalConfig> globals) =>
        // what -global says of a processor's features -cpu has taken
        globals.Where(g => model.Has(g.Driver) && (model.Category != DeviceCategory.Cpu
            || model.Find(g.Property) != null)).Select(g =>
            (g.Property, g.Value, $"-global {g.Driver}.{g.Property}={g.Value}"));

    /// <summary>The bus that bus= names, or the first of the model's kind that has room.</summary>
    QBus BusFor(DeviceModel model, Properties properties)
    {
        if (model.Find("bus") != null && properties.Text("bus") is { } name)
        {
            QBus named = tree.Find(name) ?? throw properties.Error($"Bus '{name}' not found");
            return named.Kind.Is(model.Bus) ? named
                : throw properties.Error($"Device '{model.Name}' can't go on bus '{name}'");
        }
        if (model.Bus == BusKind.None) return slots;
        QBus? last = null;
        foreach (QBus bus in tree.All.Where(bus => bus.Kind.Is(model.Bus)))
        {
            last = bus;
            if (bus.Wires is not { IsFull: true }) return bus;
        }
        string fault = last == null ? $"this machine has no {model.Bus.Name} bus"
            : $"no {model.Bus.Name} bus of this machine has room for another device";
        throw properties.Error($"{fault} ('{model.Name}')");
    }
}
