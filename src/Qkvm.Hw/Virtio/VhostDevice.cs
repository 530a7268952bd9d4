using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A device whose queues somebody else serves. What is left here is its transport, what it offers to the
/// driver, and the memory that the peer may use.</summary>
/// <remarks>Deviation: its state is the peer's, and cannot be saved while its driver runs.</remarks>
public abstract class VhostDevice : VirtioDevice
{
    readonly IVhostBackend _peer;
    readonly VhostQueue[] _queues;
    readonly int[] _sizes;
    AddressSpace? _memory;                                         // not migrated: null while stopped
    VhostRegion[] _regions = [];                                   // not migrated: as the memory is

    /// <param name="sizes">Of the queues.</param>
    /// <param name="served">So many of them, the first, are the peer's; nobody looks at the others.</param>
    /// <param name="loop">Where interrupts and, under KVM, kicks pass.</param>
    protected VhostDevice(string name, ushort deviceId, int configSize, IVhostBackend peer, int[] sizes, int served,
        IoLoop loop) : base(name, deviceId, configSize)
    {
        (_peer, _sizes) = (peer, sizes);
        _queues = new VhostQueue[served];
        for (int i = 0; i < served; i++) _queues[i] = new VhostQueue(this, peer, loop, i);
        peer.Failed += Fail;
    }

    public sealed override IReadOnlyList<int> QueueSizes => _sizes;

    /// <summary>Of the kind of device, those that are offered where the peer knows them.</summary>
    protected abstract ulong KnownFeatures { get; }

    public sealed override ulong OfferedFeatures => KnownFeatures & _peer.Features;

    public sealed override ulong PossibleRingFeatures => _peer.Features & ~VirtioFeatures.AccessPlatform;

    public sealed override IMovedQueue? QueueOf(int index) => index < _queues.Length ? _queues[index] : null;

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        _memory = Control.Transport.Dma.Memory;
        _regions = VhostRegion.Of(_memory.View, _peer.NeedsSharedMemory);
        _peer.Start(features, _regions);
        _memory.ViewChanged += OnViewChanged;
    }

    public override void Stop() => Forget();

    public override void Kick(Virtqueue queue) { }                 // of a queue that nobody serves

    public override void Reset() { }

    public override void Exchange(StateStream state)
    {
        if (Control.IsStarted)
            throw new InvalidStateException($"{Name}: its state is its peer's; stop its driver first");
    }

    /// <summary>The device is unplugged, in whatever state. Under the machine lock.</summary>
    public virtual void Close()
    {
        Forget();
        foreach (VhostQueue queue in _queues) _ = queue.StopAsync().AsTask();
        _peer.Failed -= Fail;
    }

    void Forget()
    {
        if (_memory is { } memory) memory.ViewChanged -= OnViewChanged;
        _memory = null;
    }

    void Fail(string why) => Control.FailOnLoop(why);

    /// <summary>Memory that is plugged is the driver's to use at once.</summary>
    void OnViewChanged(FlatView before, FlatView now)
    {
        VhostRegion[] regions = VhostRegion.Of(now, _peer.NeedsSharedMemory);
        if (regions.AsSpan().SequenceEqual(_regions)) return;
        _regions = regions;
        _peer.SetMemory(regions);
    }
}
