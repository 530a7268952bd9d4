using Qkvm.Core.Memory;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A queue that a peer serves: the driver's kick and its interrupt are eventfds between them.</summary>
/// <remarks>Whether to interrupt is the peer's decision, who reads the driver's wish in the ring. Deviations: under KVM
/// a kick passes our loop; the software CPU is told what a peer may write at kicks and interrupts alone, and nothing of
/// packed rings: code must not be run right where such data came.</remarks>
class VhostQueue : IMovedQueue
{
    readonly VirtioDevice _device;
    readonly IVhostBackend _peer;
    readonly IoLoop _loop;
    readonly Action _early;
    readonly Lock _announcing = new();
    Virtqueue? _queue;
    volatile WakeEvent? _kick;                                     // null while stopped, as the next
    WakeEvent? _called;

    public VhostQueue(VirtioDevice device, IVhostBackend peer, IoLoop loop, int index)
    {
        (_device, _peer, _loop, Index) = (device, peer, loop, index);
        _early = () => device.Control.KickEarly(index);
        Doorbell = new Doorbell(loop, Ring, () =>
        {
            Ring();
            return true;
        });
    }

    public Doorbell Doorbell { get; }

    protected int Index { get; }

    /// <summary>As negotiated; else the queue is not used, or is served here.</summary>
    protected virtual bool IsPeers => true;

    /// <summary>Serves a queue that is ours; false for others. From any thread.</summary>
    protected virtual bool TryServe() => false;

    public void Start(Virtqueue queue)
    {
        if (!IsPeers)
        {
            TryServe();
            return;
        }
        if (_kick != null)
        {
            Ring();
            return;
        }
        QueueSetup setup = queue.Setup;
        var ring = new VhostRing(Index, setup.Size, setup.Descriptors, setup.DriverArea, setup.DeviceArea,
            queue.Position, () => PositionAfterLoss(queue), new WakeEvent(), new WakeEvent());
        QueueInterrupt interrupt = _device.Control.InterruptOf(queue);
        (_queue, _called, _kick) = (queue, ring.Call, ring.Kick);
        _loop.Post(() => _loop.Watch(ring.Call.Fd, FdEvents.Readable, _ =>
        {
            ring.Call.Clear();
            Announce();
            interrupt.Signal();
        }));
        _peer.StartRing(ring);
        Ring();                                                    // chains may wait from before
    }

    public ValueTask StopAsync()
    {
        if (_kick is not { } kick || _called is not { } called) return default;
        (_kick, _called) = (null, null);
        return new ValueTask(EndAsync());

        async Task EndAsync()
        {
            await _peer.StopRingAsync(Index).ConfigureAwait(false);
            _loop.Post(() =>
            {
                _loop.Unwatch(called.Fd);
                called.Dispose();
                kick.Dispose();
            });
        }
    }

    void Ring()
    {
        if (TryServe()) return;
        if (_kick is { } kick)
        {
            Announce();                                            // before the peer writes
            kick.Set();
        }
        else _device.Post(_early);                                 // legacy drivers kick before DRIVER_OK
    }

    uint? PositionAfterLoss(Virtqueue queue)
    {
        lock (_announcing) return queue.PositionAfterLoss;
    }

    void Announce()
    {
        lock (_announcing) _queue?.AnnounceGiven();
    }
}
