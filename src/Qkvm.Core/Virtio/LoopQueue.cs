using System.Diagnostics;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Core.Virtio;

/// <summary>A virtqueue whose data moves on a loop, outside the machine lock.</summary>
/// <remarks>The driver's kick rings <see cref="Doorbell"/>; the loop, which looks at the queue by itself while it is
/// awake, calls <see cref="Process"/>, or the processor that rings does (<see cref="ServingPlace"/>). What a chain asks
/// for may take time: it counts from <see cref="Began"/> to <see cref="Ended"/>. Neither takes the machine lock, so
/// whoever holds it may wait for the gate. Interrupts wait a few microseconds for more to report, as long as that has
/// paid: an interrupt costs a guest more than a request.</remarks>
public abstract class LoopQueue : IMovedQueue, IPolled
{
    readonly Lock _gate = new();                                   // what follows
    readonly IoLoop _loop;
    readonly VirtioDevice _device;
    readonly Action _early;
    Virtqueue? _queue;                                             // not migrated: null while stopped
    int _inFlight;                                                 // not migrated: nothing is in flight while saving
    TaskCompletionSource? _stopped;
    ServingPlace _place;                                           // not migrated: as the next
    SignalPatience _patience;                                      // not migrated: what this host has learned
    bool _kicksOn;                                                 // not migrated: the driver is asked anew
    bool _hasSignal;                                               // not migrated: the driver is to hear of used chains

    /// <param name="device">Whose queue it is, and which.</param>
    /// <param name="servesRinger">The processor that rings may call <see cref="Process"/>.</param>
    protected LoopQueue(IoLoop loop, VirtioDevice device, int index, bool servesRinger = true)
    {
        (_loop, _device, Index) = (loop, device, index);
        _early = () => device.Control.KickEarly(index);
        Doorbell = new Doorbell(loop, OnRung, loop.Polls && servesRinger ? TryServe : null);
    }

    public int Index { get; }

    public Doorbell Doorbell { get; }
    public IoLoop Loop => _loop;

    public void Start(Virtqueue queue)
    {
        bool isNew;
        lock (_gate)
        {
            isNew = _queue == null;
            if (isNew)
            {
                (_queue, _stopped, _hasSignal, _kicksOn) = (queue, null, false, true);
                Started();
            }
        }
        if (isNew) _loop.AddPolled(this);
        Doorbell.Wake();                                           // chains may wait from before
    }

    public ValueTask StopAsync()
    {
        _loop.RemovePolled(this);
        lock (_gate)
        {
            if (_stopped != null) return new ValueTask(_stopped.Task);
            if (_inFlight == 0)
            {
                _queue = null;
                return default;
            }
            _stopped = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            Stopping();
            return new ValueTask(_stopped.Task);
        }
    }

    /// <summary>All use of the queue, and what a device keeps for it.</summary>
    protected Lock Gate => _gate;

    /// <summary>Null while stopped, or about to be. Within <see cref="Gate"/>.</summary>
    protected Virtqueue? Queue => _stopped == null ? _queue : null;

    /// <summary>The driver is there. Within <see cref="Gate"/>.</summary>
    protected virtual void Started() { }

    /// <summary>Somebody waits for what is in flight. Within <see cref="Gate"/>.</summary>
    protected virtual void Stopping() { }

    /// <summary>The loop is about to sleep: asks the driver for kicks, where any are wanted. Within
    /// <see cref="Gate"/>.</summary>
    /// <returns>True if chains came meanwhile.</returns>
    protected virtual bool EnableKicks(Virtqueue queue) => queue.EnableKicks();

    /// <summary>The driver hears at once of chains that went back to it.</summary>
    public void SignalNow()
    {
        lock (_gate)
        {
            if (!_hasSignal || Queue is not { } queue) return;
            _hasSignal = false;
            queue.Signal();
        }
    }

    /// <summary>Chains went back to the driver without <see cref="Ended"/>. Within <see cref="Gate"/>.</summary>
    protected void Returned() => _hasSignal = true;

    /// <summary>The thread that rings may serve now. Within <see cref="Gate"/>.</summary>
    protected virtual bool MayServeHere => true;

    /// <summary>Takes chains while there are any, up to a number; false if there were none. On the loop or on the
    /// thread that rings, within <see cref="Gate"/>, which it may leave meanwhile; it waits for nothing.</summary>
    protected abstract bool Process(Virtqueue queue, int most);

    /// <summary>A chain is being worked at. In <see cref="Process"/>.</summary>
    protected void Began() => _inFlight++;

    /// <summary>Returns a chain to the driver.</summary>
    protected void Ended(Virtqueue queue, DescriptorChain chain, uint written)
    {
        lock (_gate)
        {
            queue.Push(chain, written);
            _hasSignal = true;
            if (--_inFlight > 0 || _stopped is not { } stopped) return;
            (_queue, _stopped) = (null, null);
            stopped.SetResult();
        }
    }

    public bool Poll()
    {
        bool any, yields;
        lock (_gate)
        {
            if (_queue is not { } queue) return false;
            if (_kicksOn) queue.DisableKicks();
            _kicksOn = false;
            any = _stopped == null && Process(queue, Virtqueue.Burst);
            if (_hasSignal && _queue != null && _patience.IsOver(any, _device.IsGuestAsleep()))
            {
                _hasSignal = false;
                queue.Signal();
            }
            yields = !any && _hasSignal && _patience.MayYield;
            any |= _hasSignal;
        }
        if (yields) Thread.Yield();
        return any;
    }

    public bool BeforeSleep()
    {
        lock (_gate)
        {
            if (_queue is not { } queue || _stopped != null) return false;
            _kicksOn = true;
            return EnableKicks(queue);
        }
    }

    /// <summary>Chains ended outside <see cref="Process"/>: their driver hears of it. On the loop.</summary>
    protected void Settle()
    {
        if (!_loop.Polls) OnRung();
    }

    /// <summary>On the thread that rings; true: the loop need not wake.</summary>
    bool TryServe()
    {
        const int Most = 16;                                       // the processor has other things to do
        if (!_gate.TryEnter()) return false;                       // the loop is at it
        try
        {
            if (_queue is not { } queue || _stopped != null || !_kicksOn || !MayServeHere) return false;
            if (!_place.IsHere(Stopwatch.GetTimestamp(), _patience.IsVain)) return false;
            Process(queue, Most);
            if (Queue != queue) return true;                       // it was stopped meanwhile
            if (_hasSignal && _patience.IsOverHere())
            {
                _hasSignal = false;
                queue.Signal();
            }
            return !queue.EnableKicks() && !_hasSignal;
        }
        finally { _gate.Exit(); }
    }

    void OnRung()
    {
        if (Volatile.Read(ref _queue) == null)                     // legacy drivers kick before DRIVER_OK
        {
            _device.Post(_early);
            return;
        }
        do
            while (Poll()) { }
        while (!_loop.Polls && BeforeSleep());
    }
}
