using Qkvm.Core.Devices;

namespace Qkvm.Core.Usb;

/// <summary>The ports of one controller and of the hubs on them, where users plug devices: bus=usb-bus.0,port=1.2.
/// </summary>
public sealed class UsbBus : IBusWires
{
    /// <summary>USB 2.0, section 4.1.1: seven tiers, of which the first is the root and the last has no hub.</summary>
    public const int MaxHubs = 5;

    readonly List<UsbPort> _ports = [];
    readonly List<(UsbPort Port, UsbDevice Device)> _plugged = [];

    /// <summary>Of the controller, and of hubs.</summary>
    public IReadOnlyList<UsbPort> Ports => _ports;

    /// <summary>Takes companions' ports, each for one of the controller's; null: it has no companions.</summary>
    public IUsbCompanions? Companions { get; init; }

    public bool IsFull => !_ports.Exists(IsFree);

    /// <summary>One place is left: a hub on it gives room for more.</summary>
    public bool IsNearlyFull => _ports.Count(IsFree) == 1;

    /// <summary>Makes the bus of a controller, which users name by the controller's id: "usb.0".</summary>
    public static UsbBus Of(DeviceSite site, IReadOnlyList<UsbPort> ports, IUsbCompanions? companions = null)
    {
        var bus = new UsbBus { Companions = companions };
        bus._ports.AddRange(ports);
        site.AddBus(new QBus(site.NameBus(BusKind.Usb, ".0"), BusKind.Usb, bus));
        return bus;
    }

    public void Add(UsbPort port) => _ports.Add(port);
    public void Remove(UsbPort port) => _ports.Remove(port);

    /// <summary>In the order in which they came.</summary>
    public IReadOnlyList<(UsbPort Port, UsbDevice Device)> Devices => _plugged;

    public void Plug(IDevice device, Properties properties, DeviceSite site)
    {
        var plugged = (UsbDevice)device;
        UsbPort? port = properties.Text("port") is { Length: > 0 } path
            ? _ports.Find(p => p.Path == path && IsFree(p)) ?? throw properties.Error(
                $"usb port {path} (bus {site.Bus.Name}) not found (in use?)")
            : _ports.Find(p => IsFree(p) && p.Takes(plugged)) ?? _ports.Find(IsFree)
                ?? throw properties.Error($"tried to attach usb device {plugged.Product} to a bus with no free ports");
        if (!port.Takes(plugged))
            throw properties.Error($"speed mismatch trying to attach usb device \"{plugged.Product}\" "
                + $"({Words(plugged.Speeds)} speed) to bus \"{site.Bus.Name}\", port \"{port.Path}\" "
                + $"({Words(port.Speeds)} speed); a controller with companions takes both");
        plugged.Plug(this, port, site);
        _plugged.Add((port, plugged));
        if (plugged.IsPresent) port.Attach(plugged);
        site.OnLeave(() =>
        {
            _plugged.Remove((port, plugged));
            plugged.Port?.Detach();                                // perhaps a companion's
        });
    }

    public IEnumerable<IDevice> Below(IDevice device) => device is UsbDevice { Place: { } port }
        ? _plugged.Where(p => p.Port.Path.StartsWith($"{port.Path}.", StringComparison.Ordinal)).Select(p => p.Device)
        : [];

    /// <summary>"hub@1/storage@2".</summary>
    public string PathOf(IDevice device)
    {
        if (device is not UsbDevice { Place: { } port } usb) return "";
        string[] numbers = port.Path.Split('.');
        return string.Concat(numbers[..^1].Select(number => $"hub@{number}/")) + $"{usb.PathName}@{numbers[^1]}";
    }

    bool IsFree(UsbPort port) => !_plugged.Exists(p => p.Port == port);

    static string Words(UsbSpeeds speeds) => string.Join('+', Enum.GetValues<UsbSpeeds>()
        .Where(speed => speed != 0 && speeds.HasFlag(speed)).Select(speed => speed.ToString().ToLowerInvariant()));
}

/// <summary>A high speed controller that gives ports to companions. EHCI 1.0, section 4.2.</summary>
public interface IUsbCompanions
{
    /// <summary>The companion's ports stand for its own from a number on.</summary>
    /// <exception cref="ConfigurationException">It has not so many, or another companion has them.</exception>
    void Adopt(IReadOnlyList<UsbPort> ports, int first, Properties properties);

    /// <summary>The companion is gone.</summary>
    void Dismiss(IReadOnlyList<UsbPort> ports);
}
