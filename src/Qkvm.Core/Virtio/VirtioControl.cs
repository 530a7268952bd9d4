using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.State;

namespace Qkvm.Core.Virtio;

/// <summary>What all transports share: status, feature negotiation and the queues. Virtio 1.2, sections 2.1, 2.2 and
/// 3.1.</summary>
public sealed class VirtioControl
{
    readonly Virtqueue[] _queues;
    readonly ulong _ringFeatures;
    byte _status;
    ulong _features;
    bool _started;
    bool _resetting;                                               // not migrated: nothing is in flight while saving
    volatile bool _broken;
    byte _generation;

    /// <param name="ringFeatures">What the transport and its rings add to the device's features.</param>
    public VirtioControl(VirtioDevice device, IVirtioTransport transport, ulong ringFeatures)
    {
        Device = device;
        Transport = transport;
        _ringFeatures = ringFeatures;
        _queues = new Virtqueue[device.QueueSizes.Count];
        for (int i = 0; i < _queues.Length; i++)
            _queues[i] = new SplitQueue(new QueueSetup(i, device.QueueSizes[i]), this);
        device.Control = this;
    }

    public VirtioDevice Device { get; }
    public IVirtioTransport Transport { get; }
    public IReadOnlyList<Virtqueue> Queues => _queues;
    public ulong OfferedFeatures => Device.OfferedFeatures | _ringFeatures & Device.PossibleRingFeatures;

    /// <summary>What the driver accepted.</summary>
    public ulong Features => _features;

    /// <summary>The driver accepted packed rings.</summary>
    public bool IsPacked => (_features & VirtioFeatures.RingPacked) != 0;

    /// <summary>While a reset waits for requests in flight it reads as before (section 2.4): the driver waits for
    /// 0.</summary>
    public byte Status => _status;

    /// <summary>A reset was asked for, and requests are still in flight.</summary>
    public bool IsResetting => _resetting;

    /// <summary>Counts changes of the configuration structure.</summary>
    public byte Generation => _generation;
    public bool IsStarted => _started;

    /// <summary>The driver broke a rule: nothing moves until it resets the device.</summary>
    public bool IsBroken => _broken;

    /// <summary>What broke it, for monitors.</summary>
    public string? FailReason { get; private set; }                // not migrated: for this host's user

    bool IsLegacyDriver => (_features & VirtioFeatures.Version1) == 0;

    /// <summary>Section 6.1: where it is offered a driver must know that addresses are not guest memory's.</summary>
    bool MissesPlatform => (OfferedFeatures & ~_features & VirtioFeatures.AccessPlatform) != 0;

    /// <summary>Section 2.2: bits that were not offered are refused when FEATURES_OK is written; later writes are
    /// ignored, and so are those of a driver that takes FEATURES_OK back while the device runs.</summary>
    public void WriteFeatures(ulong features)
    {
        bool isNegotiated = (_status & (VirtioStatus.FeaturesOk | VirtioStatus.DriverOk)) != 0;
        if (!_resetting && !_started && !isNegotiated) _features = features;
    }

    /// <param name="legacy">Written through the legacy interface, which knows no FEATURES_OK.</param>
    public void WriteStatus(byte value, bool legacy)
    {
        if (value == 0) { Reset(); return; }
        if (_resetting) return;
        bool newlyOk = (value & ~_status & VirtioStatus.FeaturesOk) != 0;
        if (legacy) _features &= OfferedFeatures & ~VirtioFeatures.Version1;
        else if (newlyOk && ((_features & ~OfferedFeatures) != 0 || IsLegacyDriver
            || MissesPlatform))
            value &= unchecked((byte)~VirtioStatus.FeaturesOk);
        _status = (byte)(value & ~VirtioStatus.NeedsReset | _status & VirtioStatus.NeedsReset);
        bool negotiated = legacy || (_status & VirtioStatus.FeaturesOk) != 0;
        if ((_status & VirtioStatus.DriverOk) != 0 && negotiated) Start();
    }

    /// <summary>The driver's kick. Legacy drivers may kick before DRIVER_OK (section 3.1.2).</summary>
    public void Kick(int queue, bool legacy)
    {
        if ((uint)queue >= (uint)_queues.Length || _broken || _resetting || !_queues[queue].Setup.Enabled) return;
        if (!_started && legacy && _status != 0)
        {
            _features &= OfferedFeatures & ~VirtioFeatures.Version1;
            Start();
        }
        if (!_started) return;
        if (Device.QueueOf(queue) is { } moved) moved.Start(_queues[queue]);
        else Device.Kick(_queues[queue]);
    }

    /// <summary>A doorbell rang for a queue that was not started.</summary>
    public void KickEarly(int queue) => Kick(queue, IsLegacyDriver);

    /// <summary>The configuration structure changed.</summary>
    public void ConfigChanged()
    {
        _generation++;
        if ((_status & VirtioStatus.DriverOk) != 0) Transport.InterruptConfig();
    }

    /// <summary>Section 2.1.2: the driver must reset the device before it goes on.</summary>
    public void Fail(string reason)
    {
        if (_broken) return;
        (FailReason, _broken) = (reason, true);
        Tell(reason);
        Announce();
    }

    /// <summary>As <see cref="Fail"/>, on a loop: the driver hears of it from the main loop.</summary>
    public void FailOnLoop(string reason)
    {
        if (_broken) return;
        (FailReason, _broken) = (reason, true);
        Tell(reason);
        Device.Post(Announce);
    }

    void Tell(string reason)
    {
        if (Transport.Log is { } log && log.Has(LogItem.GuestErrors))
            log.GuestError(Device.Name, $"{Device.Name}: {reason}");
    }

    /// <summary>What tells the driver of used buffers.</summary>
    public QueueInterrupt InterruptOf(Virtqueue queue) =>
        new(Transport, queue, Device.QueueOf(queue.Index) != null ? Device.Post : null);

    void Announce()
    {
        if (!_broken || IsLegacyDriver) return;                    // section 2.1: the bit is unknown to a legacy driver
        _status |= VirtioStatus.NeedsReset;
        if ((_status & VirtioStatus.DriverOk) != 0) Transport.InterruptConfig();
    }

    /// <summary>Back to power-on, at once or when the requests in flight have ended: nothing writes to guest memory
    /// after it.</summary>
    public void Reset()
    {
        if (_resetting)
        {
            EndReset();
            return;
        }
        if (_started && !StopQueues())
        {
            _resetting = true;
            return;
        }
        FinishReset();
    }

    /// <summary>Stops all; false where requests are in flight: a pending reset then finishes on the main
    /// loop.</summary>
    bool StopQueues()
    {
        Device.Stop();
        List<Task>? waiting = null;
        for (int i = 0; i < _queues.Length; i++)
        {
            if (Device.QueueOf(i) is not { } moved) continue;
            ValueTask stop = moved.StopAsync();
            if (!stop.IsCompleted) (waiting ??= []).Add(stop.AsTask());
        }
        if (waiting == null) return true;
        Stopping = Task.WhenAll(waiting);
        Stopping.ContinueWith(_ => Device.Post(EndReset), TaskContinuationOptions.ExecuteSynchronously);
        return false;
    }

    /// <summary>What a pending reset waits for.</summary>
    public Task Stopping { get; private set; } = Task.CompletedTask;

    /// <summary>For transports that give a driver no way to wait for a reset: the processor waits, with the lock let
    /// go. Not for ever: a disk that never answers would hold it, and with it all that waits for processors.</summary>
    public void AwaitReset(MachineLock machine)
    {
        const int Patience = 5000;                                 // milliseconds
        if (!_resetting) return;
        machine.RunReleased(() => Stopping.Wait(Patience));
        EndReset();
    }

    /// <summary>Ends a pending reset whose requests have ended.</summary>
    public void EndReset()
    {
        if (!_resetting || !Stopping.IsCompleted) return;
        _resetting = false;
        FinishReset();
    }

    void FinishReset()
    {
        (_status, _features, _started, _broken, _generation, FailReason) = (0, 0, false, false, 0, null);
        foreach (Virtqueue queue in _queues)
        {
            queue.Reset();
            queue.Setup.Reset();
        }
        Device.Reset();
    }

    public void Exchange(StateStream state)
    {
        if (_resetting || state.IsLoading && _started && !StopQueues())
            throw new InvalidStateException($"{Device.Name}: requests are in flight");
        if (state.IsLoading) _started = false;
        bool started = _started, broken = _broken;
        state.Field("status", ref _status);
        state.Field("features", ref _features);
        state.Field("started", ref started);
        state.Field("broken", ref broken);
        state.Field("generation", ref _generation);
        _broken = broken;
        if (state.IsLoading) ChooseRings();
        for (int i = 0; i < _queues.Length; i++)
        {
            StateStream group = state.Group("queue", i);
            _queues[i].Setup.Exchange(group);
            _queues[i].Exchange(group);
        }
        if (state.IsLoading && (_features & ~OfferedFeatures) != 0 && started)
            throw new InvalidStateException($"{Device.Name}: features {_features:x} were accepted, " +
                $"{OfferedFeatures:x} are offered");
        if (state.IsLoading && started) Begin(isLoaded: true);     // a broken device too: its driver will reset it
        Device.Exchange(state.Group("device"));
    }

    void Start()
    {
        if (!_started && !_broken) Begin(isLoaded: false);
    }

    /// <summary>Split or packed, as negotiated; the set-up stays.</summary>
    void ChooseRings()
    {
        bool packed = IsPacked;
        for (int i = 0; i < _queues.Length; i++)
            if (_queues[i] is PackedQueue != packed)
                _queues[i] = packed ? new PackedQueue(_queues[i].Setup, this) : new SplitQueue(_queues[i].Setup, this);
    }

    void Begin(bool isLoaded)
    {
        if (!isLoaded) ChooseRings();
        _started = true;
        Device.Start(_queues, _features);
        // not now: a state that is being loaded must not move
        if (isLoaded) Device.Post(StartQueues);
        else StartQueues();
    }

    void StartQueues()
    {
        for (int i = 0; _started && i < _queues.Length; i++)
            if (_queues[i].Setup.Enabled) Device.QueueOf(i)?.Start(_queues[i]);
    }
}
