using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Net.Hub;

/// <summary>-netdev hubport: a place at a hub for a card, or with netdev= for another backend.</summary>
public sealed class HubPort : NetBackend, IHubPort, IDisposable
{
    public static readonly NetModel Model = new("hubport",
        [
            Property.Automatic("hubid", max: int.MaxValue, help: "the hub's number"),
            Property.Netdev(help: "the backend that is plugged in; without, a card is"),
        ],
        static (given, host) => new HubPort(given, host)) { Description = "a place at a hub, for a card or a netdev" };

    readonly NetHub _hub;
    readonly HubBackend? _backend;
    readonly Action _release = static () => { };
    bool _isTaken;

    HubPort(Properties given, IBackendHost host) : base(given.Required("id"))
    {
        int id = (int?)given.NumberOrAuto("hubid") ?? throw given.Error("Parameter 'hubid' is missing");
        _hub = host.Backends.Netdevs.Values.OfType<HubPort>().FirstOrDefault(port => port.HubId == id)?._hub
            ?? new NetHub(id);
        NetdevId = given.Text("netdev");
        if (NetdevId is not { } netdev) return;
        if (!host.Backends.Netdevs.ContainsKey(netdev))
            throw given.Error($"netdev '{netdev}' not found; give it before this one");
        if (host.Backends.Netdevs[netdev] is HubPort) throw given.Error($"netdev '{netdev}' is a hubport itself");
        _backend = new HubBackend(_hub, host.Backends.TakeNetdev(netdev, given.Owner), host.Loop);
        _release = () => host.Backends.ReleaseNetdev(netdev);
    }

    public int HubId => _hub.Id;
    public string? NetdevId { get; }
    public override string Description => $"index=0,type=hubport,hubid={HubId}";

    public override INetQueue Open(int index, INetPort port, IoLoop loop)
    {
        if (_isTaken) throw new InvalidOperationException($"{Id} is connected already");
        _isTaken = true;
        return new HubCard(_hub, port, loop, () => _isTaken = false);
    }

    public void Dispose()
    {
        _backend?.Dispose();
        _release();
    }
}
