using Qkvm.Backends.Char;
using Qkvm.Backends.Vhost;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>-netdev vhost-user: another process serves a virtio card's rings, in guest memory that it maps.</summary>
/// <remarks>Without a peer the card has no link. Deviation: while a peer serves, the card's state cannot be
/// saved.</remarks>
public sealed class VhostUserNet : NetBackend, IVhostNet, IDisposable
{
    const int MostPairs = 64;

    public static readonly NetModel Model = new("vhost-user",
        [
            Property.Chardev(help: "a socket, by which the peer is reached"),
            Property.Bool("vhostforce", false, "taken, no effect"),
            Property.Number("queues", 1, 1, MostPairs, "pairs of rings"),
        ],
        static (given, host) =>
        {
            string id = given.Text("chardev") ?? throw given.Error("Parameter 'chardev' is missing");
            ICharBackend chardev = host.Backends.TakeChardev(id, given.Owner);
            try
            {
                if (chardev.Stream is not SocketChar socket)
                    throw given.Error($"chardev \"{id}\" is not a unix socket; give -chardev socket,id={id},path=…");
                return new VhostUserNet(given, socket, (int)given.Number("queues"), host);
            }
            catch
            {
                host.Backends.ReleaseChardev(id);
                throw;
            }
        }) { Description = "another process serves the card's rings" };

    readonly SocketChar _chardev;
    readonly IBackendHost _host;
    readonly int _pairs;
    readonly VhostUserLink _link;
    bool _isDisposed;

    VhostUserNet(Properties given, SocketChar chardev, int pairs, IBackendHost host) : base(given.Required("id"))
    {
        (_chardev, _pairs, _host) = (chardev, pairs, host);
        var needs = new VhostUserNeeds(pairs, "the card has no link until one comes again")
            { Owner = given.Owner, Resumes = true };
        _link = new VhostUserLink(chardev, host.Loop, needs, host.Warn, enabledRings: 2);
    }

    public override string Description => $"index=0,type=vhost-user,vhost-user0 to {_chardev.Id}";
    public override NetOffloads Takes => Everything;
    public override NetOffloads Gives => Everything;
    public override int MaxQueues => _pairs;
    public override IVhostNet Vhost => this;

    // What the features do not forbid: frames do not pass here.
    const NetOffloads Everything = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6 | NetOffloads.TsoEcn
        | NetOffloads.Uso;

    public ulong Features => _link.Features;
    public bool IsConnected => _link.IsConnected;
    public event Action Changed { add => _link.Changed += value; remove => _link.Changed -= value; }
    public event Action<string> Failed { add => _link.Failed += value; remove => _link.Failed -= value; }

    public override INetQueue Open(int index, INetPort port, IoLoop loop) =>
        throw new ConfigurationException($"-netdev vhost-user,id={Id}: vhost-user requires frontend driver " +
            "virtio-net-*");

    public void Start(ulong features, IReadOnlyList<VhostRegion> memory) => _link.Start(features, memory);
    public void SetMemory(IReadOnlyList<VhostRegion> memory) => _link.SetMemory(memory);
    public void StartRing(VhostRing ring) => _link.StartRing(ring);
    public Task StopRingAsync(int index) => _link.StopRingAsync(index);
    public void SetPairs(int pairs) => _link.EnableRings(2 * pairs);

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        _link.Dispose();
        _host.Backends.ReleaseChardev(_chardev.Id);
    }
}
