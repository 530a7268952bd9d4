using Qkvm.Backends.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Vhost;

/// <summary>A device's rings in another process, whichever that is: one peer after the other by a chardev.</summary>
/// <remarks>What waits for the peer runs on the thread pool, one thing after the other. A peer that breaks the
/// protocol, does not answer or leaves is dropped; another may come by the chardev. Deviation: packed rings do not
/// hold enough to go on elsewhere.</remarks>
public sealed class VhostUserLink : IVhostUser
{
    readonly SocketChar _chardev;
    readonly EventLoop _loop;
    readonly VhostUserNeeds _needs;
    readonly Action<string> _warn;
    readonly Lock _gate = new();
    Task _work = Task.CompletedTask;                               // the last of what waits for the peer
    volatile VhostUserPeer? _peer;
    volatile byte[] _config = [];
    int _asksConfig;
    bool _isDisposed;

    // What the device has started, for the next peer; used in work alone.
    readonly SortedDictionary<int, VhostRing> _rings = [];
    readonly HashSet<int> _served = [];
    ulong _features;
    IReadOnlyList<VhostRegion> _memory = [];
    int _enabledRings;

    /// <summary>Waits for the first peer.</summary>
    /// <param name="enabledRings">The others wait for <see cref="EnableRings"/>.</param>
    /// <exception cref="ConfigurationException">It cannot do what is needed.</exception>
    public VhostUserLink(SocketChar chardev, EventLoop loop, VhostUserNeeds needs, Action<string> warn,
        int enabledRings = int.MaxValue)
    {
        (_chardev, _loop, _needs, _warn, _enabledRings) = (chardev, loop, needs, warn, enabledRings);
        if (chardev.IsFramed)
            throw Error($"chardev \"{chardev.Id}\" is not a unix socket; give -chardev socket,id={chardev.Id},path=…");
        if (IoLoop.Current != null && !chardev.IsOpen)             // a machine that runs does not stand still for it
            throw Error($"chardev \"{chardev.Id}\" has no peer yet; add it when one is connected");
        VhostUserPeer? first = null;
        chardev.Lend(socket =>
        {
            if (first != null)
            {
                Adopt(socket);
                return;
            }
            try { first = new VhostUserPeer(socket, needs.ConfigSize); }
            catch (VhostUserException e)
            {
                chardev.Return();
                throw Error($"{chardev.Description}: {e.Message}", e);
            }
        });
        MaxQueues = first!.MaxQueues ?? needs.Least;
        if (MaxQueues < needs.Queues)
        {
            first.Dispose();
            chardev.Return();
            throw Error($"you are asking more queues than supported: {MaxQueues}");
        }
        Features = first.Features;
        _config = first.Config;
        Take(first);
    }

    public ulong Features { get; }
    public int MaxQueues { get; }
    public byte[] Config => _config;
    public bool IsConnected => _peer != null;
    public event Action? Changed;
    public event Action? ConfigChanged;
    public event Action<string>? Failed;

    public void Start(ulong features, IReadOnlyList<VhostRegion> memory) => Do(() =>
    {
        (_features, _memory) = (features, memory);
        Live?.Start(features, memory);
    });

    public void SetMemory(IReadOnlyList<VhostRegion> memory) => Do(() =>
    {
        _memory = memory;
        Live?.SetMemory(memory);
    });

    public void StartRing(VhostRing ring) => Do(() =>
    {
        _rings[ring.Index] = ring;
        if (Live is not { } peer) return;
        _served.Add(ring.Index);
        peer.StartRing(ring, ring.Position, IsEnabled(ring.Index));
    });

    public Task StopRingAsync(int index) => Do(() =>
    {
        _served.Remove(index);
        if (_rings.Remove(index)) Live?.StopRing(index);
    });

    /// <summary>The first so many rings are in use.</summary>
    public void EnableRings(int count) => Do(() =>
    {
        _enabledRings = count;
        foreach (int ring in _rings.Keys) Live?.Enable(ring, IsEnabled(ring));
    });

    public void SetConfig(int offset, ReadOnlySpan<byte> data)
    {
        byte[] written = data.ToArray();
        Do(() => Live?.SetConfig(offset, written));
    }

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        if (_peer is { } peer) Drop(peer, null);
        _chardev.Return();
    }

    VhostUserPeer? Live => _peer is { IsDead: false } peer ? peer : null;

    bool IsEnabled(int ring) => ring < _enabledRings;

    ConfigurationException Error(string message, Exception? inner = null) => new($"{_needs.Owner}: {message}", inner);

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
                    _loop.Post(() => Drop(peer, e.Message));
                }
            }, TaskScheduler.Default);
    }

    /// <summary>A peer that follows another. Main loop, under the machine lock.</summary>
    void Adopt(StreamSocket socket) => Do(() =>
    {
        VhostUserPeer? next = null;
        try
        {
            next = new VhostUserPeer(socket, _needs.ConfigSize);
            if ((_features & Features & ~next.Features) is not 0 and var missing)
                throw new VhostUserException($"the peer that followed lacks features {missing:x}");
            int queues = next.MaxQueues ?? _needs.Least;
            if (queues < _needs.Queues)
                throw new VhostUserException($"the peer that followed has {queues} queues of {_needs.Queues}");
            if (_rings.Count > 0) next.Start(_features, _memory);
            foreach (VhostRing ring in _rings.Values) Resume(ring, next);
            VhostUserPeer good = next;
            _peer = good;                                          // rings that start now are its
            _loop.Post(() => Take(good));
            SetConfigOf(good.Config);
        }
        catch (VhostUserException e)
        {
            next?.Dispose();
            _loop.Post(() =>
            {
                _warn($"{_needs.Owner}: {e.Message}");
                if (!_isDisposed) _chardev.GiveBack();
            });
        }
    });

    void Resume(VhostRing ring, VhostUserPeer peer)
    {
        uint? position = _served.Contains(ring.Index) ? _needs.Resumes ? ring.PositionAfterLoss() : null
            : ring.Position;
        if (position is { } at)
        {
            _served.Add(ring.Index);
            peer.StartRing(ring, at, IsEnabled(ring.Index));
        }
        else Failed?.Invoke($"queue {ring.Index}: its vhost-user peer has gone");
        ring.Kick.Set();
        ring.Call.Set();                                           // what the last one did not tell
    }

    /// <summary>Main loop, under the machine lock.</summary>
    void Take(VhostUserPeer peer)
    {
        if (_isDisposed)
        {
            peer.Dispose();
            return;
        }
        _peer = peer;
        _loop.Watch(peer.Fd, FdEvents.None, _ => Drop(peer, null));   // hang-ups are reported unasked
        if (peer.Notices is { } notices)
            _loop.Watch(notices.Fd, FdEvents.Readable, _ =>
            {
                if (!notices.Read(out bool changed)) _loop.Unwatch(notices.Fd);
                if (changed) AskConfig();
            });
        Changed?.Invoke();
    }

    /// <summary>Main loop, under the machine lock.</summary>
    void Drop(VhostUserPeer peer, string? why)
    {
        if (_peer != peer) return;
        _peer = null;
        _loop.Unwatch(peer.Fd);
        if (peer.Notices is { } notices) _loop.Unwatch(notices.Fd);
        if (!_isDisposed) _warn($"{_needs.Owner}: {why ?? "the peer has gone"}; {_needs.Loss}");
        Do(peer.Dispose);                                          // work may be talking to it
        Changed?.Invoke();
        if (!_isDisposed) _chardev.GiveBack();
    }

    void AskConfig()
    {
        if (Interlocked.Exchange(ref _asksConfig, 1) == 0)
            Do(() =>
            {
                Volatile.Write(ref _asksConfig, 0);
                if (Live is { } peer) SetConfigOf(peer.GetConfig());
            });
    }

    void SetConfigOf(byte[] config)
    {
        if (_config.AsSpan().SequenceEqual(config)) return;
        _config = config;
        ConfigChanged?.Invoke();
    }
}
