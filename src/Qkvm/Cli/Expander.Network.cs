using Qkvm.Backends.Net.Hub;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    readonly List<NetdevConfig> _netdevs = [];
    readonly List<(string? Model, string? Netdev, IReadOnlyList<OptionPair> Options, string Owner)> _hubCards = [];
    readonly List<NetdevConfig> _hubBackends = [];
    bool _namesNetwork;                                            // even if it is "none"

    void AddNetdev(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "type");
        string type = Catalogue.Netdevs.Known(options.Text("type") ?? "", owner).Name;
        string id = options.Required("id");
        Identifier.Check(id, owner);
        AddNetdev(new NetdevConfig(id, type, options));
    }

    NetdevConfig AddNetdev(NetdevConfig netdev)
    {
        _namesNetwork = true;
        if (_netdevs.Exists(n => n.Id == netdev.Id))
            throw new ConfigurationException($"{netdev.Owner}: duplicate id '{netdev.Id}' for netdev");
        _netdevs.Add(netdev);
        return netdev;
    }

    /// <summary>-nic type,…: a backend and its card.</summary>
    void AddNic(string text, string owner)
    {
        _namesNetwork = true;
        Options options = Options.Parse(text, owner, "type");
        string type = options.Text("type") ?? "";
        if (type == "none") return;
        string id = options.Text("id") ?? $"nic{_netdevs.Count}";
        string? mac = options.Text("macaddr") is { } old ? options.Text("mac") ?? old : options.Text("mac"),
            model = options.Text("model");
        AddNetdev(new NetdevConfig(id, Catalogue.Netdevs.Known(type, owner).Name, options));
        _hubCards.Add((model, id, mac == null ? [] : [new("mac", mac)], owner));
    }

    /// <summary>-net nic and -net backend meet on hub 0; one of each is the same as -netdev and -device.</summary>
    void AddNet(string text, string owner)
    {
        _namesNetwork = true;
        Options options = Options.Parse(text, owner, "type");
        string type = options.Text("type") ?? "";
        if (type == "none") return;
        if (type == "nic")
        {
            string? mac = options.Text("macaddr"), model = options.Text("model"), address = options.Text("addr"),
                vectors = options.Text("vectors");
            string? netdev = options.Text("netdev"), id = options.Text("id") ?? options.Text("name");
            options.Close();
            List<OptionPair> properties = [];
            if (mac != null) properties.Add(new("mac", mac));
            if (address != null) properties.Add(new("addr", address));
            if (vectors != null) properties.Add(new("vectors", vectors));
            _hubCards.Add((model, netdev, properties, owner));
            return;
        }
        string port = options.Text("id") ?? options.Text("name") ?? $"hub0port{_hubBackends.Count}";
        _hubBackends.Add(AddNetdev(new NetdevConfig(port, Catalogue.Netdevs.Known(type, owner).Name, options)));
    }

    /// <summary>Such cards are the board's: they come before what -device names, so that they have the first free
    /// slots.</summary>
    DeviceConfig Card(string? model, string? netdev, IReadOnlyList<OptionPair> options, string owner)
    {
        string driver = model ?? _machine?.Defaults.NetworkCard ?? Catalogue.NetworkCards[0].Model.Name;
        foreach (var (name, card) in Catalogue.NetworkCards)
            if (driver == name) driver = card.Name;
        return new DeviceConfig(driver, null, netdev == null ? options : [new("netdev", netdev), .. options], owner);
    }

    void FinishNetwork()
    {
        if (!_namesNetwork && !_noDefaults && _machine?.Defaults is { NetworkCard.Length: > 0, HasNetworkCard: true })
            AddNic(UserNetModel.Model.Name, "default network");
        int onHub = _hubCards.Count(card => card.Netdev == null);
        bool needsHub = _hubBackends.Count > 1 || onHub > 1;
        if (needsHub)
            foreach (NetdevConfig backend in _hubBackends.ToArray()) AddHubPort(backend.Owner, backend.Id);
        foreach (var (model, netdev, options, owner) in _hubCards)
        {
            if (_machine is { Defaults.NetworkCard.Length: 0 })
            {
                _warn($"{owner}: requested NIC was not created (not supported by this machine); give -netdev and "
                    + "-device");
                continue;
            }
            string? backend = netdev ?? (needsHub ? AddHubPort(owner, null) : _hubBackends.FirstOrDefault()?.Id);
            if (backend == null) _warn($"{owner}: has no backend: nothing is at the other end; add one, for example "
                + "-net tap");
            _devices.Insert(_onBoard++, Card(model, backend, options, owner));
        }
        if (_hubBackends.Count > 0 && onHub == 0)
            _warn($"{_hubBackends[0].Owner}: has no card: nothing is at the other end; "
            + "add -net nic");
        NumberCards();
        _config = _config with { Netdevs = [.. _netdevs] };
    }

    /// <summary>A place at hub 0 for a card, or for a backend.</summary>
    string AddHubPort(string owner, string? netdev)
    {
        var options = new Options(owner);
        options.Add("hubid", "0");
        if (netdev != null) options.Add("netdev", netdev);
        int number = _hubBackends.Count;
        while (_netdevs.Exists(n => n.Id == $"hub0port{number}")) number++;
        return AddNetdev(new NetdevConfig($"hub0port{number}", HubPort.Model.Name, options)).Id;
    }

    /// <summary>Cards without mac= get QEMU's addresses in order: 52:54:00:12:34:56, :57 …</summary>
    void NumberCards()
    {
        byte last = 0x56;
        foreach (DeviceConfig device in _devices)
        {
            if (Catalogue.Devices.Find(device.Driver)?.Category != DeviceCategory.Network) continue;
            if (!device.Properties.Has("mac")) device.Properties.Add("mac", $"52:54:00:12:34:{last:x2}");
            last++;
        }
    }
}
