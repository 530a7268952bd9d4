using Qkvm.Backends.Char;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Vhost;

/// <summary>-netdev vhost-user: another process serves a virtio card's rings, in guest memory that it maps.</summary>
/// <remarks>What waits for the peer runs on the thread pool, one thing after the other. A peer that breaks the
/// protocol, does not answer or leaves is dropped: the card has no link until another comes by the chardev, which then
/// goes on where the rings say. Deviations: packed rings do not hold enough for that, so that their driver must reset
/// its device; while a peer serves, the card's state cannot be saved.</remarks>
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
                if (chardev.Stream is not SocketChar { IsFramed: false } socket)
                    throw given.Error($"chardev \"{id}\" is not a unix socket; give -chardev socket,id={id},path=…");
                if (IoLoop.Current != null && !socket.IsOpen)      // a machine that runs does not stand still for it
                    throw given.Error($"chardev \"{id}\" has no peer yet; add the network when one is connected");
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
    readonly Lock _gate = new();
    Task _work = Task.CompletedTask;                               // the last of what waits for the peer
    volatile VhostUserPeer? _peer;
    bool _isDisposed;

    // What the card has started, for the next peer; used in work alone.
    readonly SortedDictionary<int, VhostRing> _rings = [];
    ulong _features;
    IReadOnlyList<VhostRegion> _memory = [];
    int _enabledPairs = 1;

    VhostUserNet(Properties given, SocketChar chardev, int pairs, IBackendHost host) : base(given.Required("id"))
    {
        (_chardev, _pairs, _host) = (chardev, pairs, host);
        VhostUserPeer? first = null;
        chardev.Lend(socket =>
        {
            if (first != null)
            {
                Adopt(socket);
                return;
            }
            try { first = new VhostUserPeer(socket); }
            catch (VhostUserException e) { throw given.Error($"{chardev.Description}: {e.Message}", e); }
        });
        if (first!.MaxPairs < pairs)
        {
            first.Dispose();
            throw given.Error($"you are asking more queues than supported: {first.MaxPairs}");
        }
        Features = first.Features;
        Take(first);
    }

    public override string Description => $"index=0,type=vhost-user,vhost-user0 to {_chardev.Id}";
    public override NetOffloads Takes => Everything;
    public override NetOffloads Gives => Everything;
    public override int MaxQueues => _pairs;
    public override IVhostNet Vhost => this;

    // What the features do not forbid: frames do not pass here.
    const NetOffloads Everything = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6 | NetOffloads.TsoEcn
        | NetOffloads.Uso;

    public ulong Features { get; }
    public bool IsConnected => _peer != null;
    public event Action? Changed;
    public event Action<string>? Failed;

    public override INetQueue Open(int index, INetPort port, IoLoop loop) =>
        throw new ConfigurationException($"-netdev vhost-user,id={Id}: vhost-user requires frontend driver " +
            "virtio-net-*");

    public void Start(ulong features, IReadOnlyList<VhostRegion> memory) => Do(() =>
    {
        (_features, _memory) = (features, memory);
        Live?.Start(features, memory);
    });

    public void StartRing(VhostRing ring) => Do(() =>
    {
        _rings[ring.Index] = ring;
        Live?.StartRing(ring, ring.Position, IsEnabled(ring.Index));
    });

    public Task StopRingAsync(int index) => Do(() =>
    {
        if (_rings.Remove(index)) Live?.StopRing(index);
    });

    public void SetPairs(int pairs) => Do(() =>
    {
        _enabledPairs = pairs;
        foreach (int ring in _rings.Keys) Live?.Enable(ring, IsEnabled(ring));
    });

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        if (_peer is { } peer) Drop(peer, null);
        _host.Backends.ReleaseChardev(_chardev.Id);
    }

    VhostUserPeer? Live => _peer is { IsDead: false } peer ? peer : null;

    bool IsEnabled(int ring) => ring / 2 < _enabledPairs;

    /// <summary>What waits for the peer, after all that was asked before; a peer that fails is dropped.</summary>
    Task Do(Action work)
    {
        lock (_gate)
            return _work = _work.ContinueWith(_ =>
            {
                VhostUserPeer? peer = _peer;
                try { work(); }
                catch (VhostUserException e)
                {
                    if (peer == null) return;
                    peer.IsDead = true;
                    _host.Loop.Post(() => Drop(peer, e.Message));
                }
            }, TaskScheduler.Default);
    }

    /// <summary>A peer that follows another. Main loop, under the machine lock.</summary>
    void Adopt(StreamSocket socket) => Do(() =>
    {
        VhostUserPeer? next = null;
        try
        {
            next = new VhostUserPeer(socket);
            if ((_features & Features & ~next.Features) is not 0 and var missing)
                throw new VhostUserException($"the peer that followed lacks features {missing:x}");
            if (next.MaxPairs < _pairs) throw new VhostUserException($"the peer that followed has {next.MaxPairs} " +
                $"queues of {_pairs}");
            if (_rings.Count > 0) next.Start(_features, _memory);
            foreach (VhostRing ring in _rings.Values)
            {
                if (ring.PositionAfterLoss() is { } position) next.StartRing(ring, position, IsEnabled(ring.Index));
                else Failed?.Invoke($"queue {ring.Index}: its vhost-user peer has gone");
                ring.Kick.Set();
                ring.Call.Set();                                   // what the last one did not tell
            }
            VhostUserPeer good = next;
            _peer = good;                                          // rings that start now are its
            _host.Loop.Post(() => Take(good));
        }
        catch (VhostUserException e)
        {
            next?.Dispose();
            _host.Loop.Post(() =>
            {
                _host.Warn($"-netdev vhost-user,id={Id}: {e.Message}");
                if (!_isDisposed) _chardev.GiveBack();
            });
        }
    });

    /// <summary>Main loop, under the machine lock.</summary>
    void Take(VhostUserPeer peer)
    {
        if (_isDisposed)
        {
            peer.Dispose();
            return;
        }
        _peer = peer;
        _host.Loop.Watch(peer.Fd, FdEvents.None, _ => Drop(peer, null));   // hang-ups are reported unasked
        Changed?.Invoke();
    }

    /// <summary>Main loop, under the machine lock.</summary>
    void Drop(VhostUserPeer peer, string? why)
    {
        if (_peer != peer) return;
        _peer = null;
        _host.Loop.Unwatch(peer.Fd);
        if (!_isDisposed)
            _host.Warn($"-netdev vhost-user,id={Id}: {why ?? "the peer has gone"}; the card has no link until one " +
                "comes again");
        Do(peer.Dispose);                                          // work may be talking to it
        Changed?.Invoke();
        if (!_isDisposed) _chardev.GiveBack();
    }
}
