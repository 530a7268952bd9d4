using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A queue that a backend's peer serves: the driver's kick and its interrupt are eventfds between
/// them.</summary>
/// <remarks>Whether to interrupt is the peer's decision, who reads the driver's wish in the ring. Deviations: under KVM
/// a kick passes our loop; what the peer writes is not told to the software CPU, so that a guest must not run code
/// right where a frame arrived.</remarks>
sealed class VhostQueue : IMovedQueue
{
    readonly VirtioNet _card;
    readonly IVhostNet _peer;
    readonly IoLoop _loop;
    readonly int _index;
    readonly Action _early;
    volatile WakeEvent? _kick;                                     // null while stopped, as the next
    WakeEvent? _called;

    public VhostQueue(VirtioNet card, IVhostNet peer, IoLoop loop, int index)
    {
        (_card, _peer, _loop, _index) = (card, peer, loop, index);
        _early = () => card.Control.KickEarly(index);
        Doorbell = new Doorbell(loop, Ring, () =>
        {
            Ring();
            return true;
        });
    }

    public Doorbell Doorbell { get; }

    public void Start(Virtqueue queue)
    {
        if (_index / 2 >= _card.MaxPairs)                          // not negotiated, or the control queue
        {
            if (_card.IsControl(_index)) _card.ServeControlLater();
            return;
        }
        if (_kick is { } kick)
        {
            kick.Set();
            return;
        }
        QueueSetup setup = queue.Setup;
        var ring = new VhostRing(_index, setup.Size, setup.Descriptors, setup.DriverArea, setup.DeviceArea,
            queue.Position, () => queue.PositionAfterLoss, new WakeEvent(), new WakeEvent());
        QueueInterrupt interrupt = _card.Control.InterruptOf(queue);
        _kick = ring.Kick;
        _called = ring.Call;
        _loop.Post(() => _loop.Watch(ring.Call.Fd, FdEvents.Readable, _ =>
        {
            ring.Call.Clear();
            interrupt.Signal();
        }));
        _peer.StartRing(ring);
        ring.Kick.Set();                                           // chains may wait from before
    }

    public ValueTask StopAsync()
    {
        if (_kick is not { } kick || _called is not { } called) return default;
        (_kick, _called) = (null, null);
        return new ValueTask(EndAsync());

        async Task EndAsync()
        {
            await _peer.StopRingAsync(_index).ConfigureAwait(false);
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
        if (_card.IsControl(_index)) _card.ServeControlLater();
        else if (_kick is { } kick) kick.Set();
        else _card.Post(_early);                                   // legacy drivers kick before DRIVER_OK
    }
}
