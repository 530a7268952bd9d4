using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    readonly List<NetdevConfig> _netdevs = [];
    readonly List<(string? Model, IReadOnlyList<OptionPair> Options, string Owner)> _hubCards = [];
    readonly List<string> _hubBackends = [];

    static readonly string[] NetdevTypes = ["tap", "user", "socket", "stream", "dgram", "bridge", "hubport", "l2tpv3", "vde", "vhost-user", "vhost-vdpa"];

    void AddNetdev(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "type");
        string type = CheckNetdevType(list.Take("type") ?? "", owner);
        string id = list.Take("id") ?? throw new ConfigurationException($"{owner}: needs id=");
        CheckId(id, owner);
        AddNetdev(new NetdevConfig(id, type, list.Rest, owner));
    }

    static string CheckNetdevType(string type, string owner) => Array.IndexOf(NetdevTypes, type) >= 0 ? type
        : throw new ConfigurationException($"{owner}: '{type}' is not a network backend{Suggestion.For(type, NetdevTypes)}");

    void AddNetdev(NetdevConfig netdev)
    {
        if (_netdevs.Exists(n => n.Id == netdev.Id)) throw new ConfigurationException($"{netdev.Owner}: duplicate id '{netdev.Id}' for netdev");
        _netdevs.Add(netdev);
    }

    /// <summary>-nic type,…: a backend and its card.</summary>
    void AddNic(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "type");
        string type = list.Take("type") ?? "";
        if (type == "none") return;
        string id = list.Take("id") ?? $"nic{_netdevs.Count}";
        string? mac = list.Take("mac") ?? list.Take("macaddr"), model = list.Take("model");
        list.Take("macaddr");
        if (type == "hubport") throw new ConfigurationException($"{owner}: hubport is not built yet; give a backend such as tap");
        AddNetdev(new NetdevConfig(id, CheckNetdevType(type, owner), list.Rest, owner));
        AddCard(model, id, mac == null ? [] : [new("mac", mac)], owner);
    }

    /// <summary>-net nic and -net backend meet on hub 0; one of each is the same as -netdev and -device.</summary>
    void AddNet(string text, string owner)
    {
        var list = new KeyValueList(text, owner, "type");
        string type = list.Take("type") ?? "";
        if (type == "none") return;
        if (type == "nic")
        {
            string? mac = list.Take("macaddr"), model = list.Take("model"), address = list.Take("addr");
            list.Take("name");
            list.Take("vectors");
            list.Close("netdev", "vlan");
            List<OptionPair> options = [];
            if (mac != null) options.Add(new("mac", mac));
            if (address != null) options.Add(new("addr", address));
            _hubCards.Add((model, options, owner));
            return;
        }
        string id = list.Take("id") ?? list.Take("name") ?? $"hub0port{_hubBackends.Count}";
        AddNetdev(new NetdevConfig(id, CheckNetdevType(type, owner), list.Rest, owner));
        _hubBackends.Add(id);
    }

    void AddCard(string? model, string netdev, IReadOnlyList<OptionPair> options, string owner)
    {
        string driver = model switch { null => "virtio-net-pci", "virtio" => "virtio-net-pci", _ => model };
        _devices.Add(new DeviceConfig(driver, null, [new("netdev", netdev), .. options], owner));
    }

    void FinishNetwork()
    {
        if (_hubBackends.Count > 1 || _hubCards.Count > 1)
            throw new ConfigurationException("-net: several cards or backends on one hub are not built yet; pair each with -netdev …,id=X -device …,netdev=X");
        if (_hubBackends.Count != _hubCards.Count && _hubCards.Count > 0)
            throw new ConfigurationException($"{_hubCards[0].Owner}: has no backend; add one, for example -net tap");
        for (int i = 0; i < _hubCards.Count; i++) AddCard(_hubCards[i].Model, _hubBackends[i], _hubCards[i].Options, _hubCards[i].Owner);
        NumberCards();
        _config = _config with { Netdevs = [.. _netdevs] };
    }

    /// <summary>Cards without mac= get QEMU's addresses in order: 52:54:00:12:34:56, :57 …</summary>
    void NumberCards()
    {
        byte last = 0x56;
        for (int i = 0; i < _devices.Count; i++)
        {
            DeviceConfig device = _devices[i];
            if (!device.Driver.StartsWith("virtio-net", StringComparison.Ordinal)) continue;
            if (!device.Properties.Any(p => p.Name == "mac"))
                _devices[i] = device with { Properties = [.. device.Properties, new("mac", $"52:54:00:12:34:{last:x2}")] };
            last++;
        }
    }
}
