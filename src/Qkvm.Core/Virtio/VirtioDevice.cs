using System.Diagnostics.CodeAnalysis;
using Qkvm.Core.State;

namespace Qkvm.Core.Virtio;

/// <summary>A virtio device without its transport: features, configuration space and what its queues mean. Virtio 1.2,
/// chapter 5. All members are called under the machine lock. A queue that <see cref="QueueOf"/> names moves its data
/// outside of it.</summary>
public abstract class VirtioDevice(string name, ushort deviceId, int configSize)
{
    VirtioControl? _control;

    public string Name { get; } = name;

    /// <summary>Section 5: 1 network, 2 block, 4 entropy, 5 balloon.</summary>
    public ushort DeviceId { get; } = deviceId;

    public int ConfigSize => ConfigSpace.Length;

    /// <summary>As <see cref="Pci.PciDevice.InstalledRom"/>.</summary>
    public virtual string? InstalledRom => null;

    /// <summary>The largest size of each queue; powers of two.</summary>
    public abstract IReadOnlyList<int> QueueSizes { get; }

    /// <summary>The device's own feature bits; rings and transports add theirs.</summary>
    public abstract ulong OfferedFeatures { get; }

    /// <summary>Those of the rings and the transport that the device can do with.</summary>
    public virtual ulong PossibleRingFeatures => ulong.MaxValue;

    /// <summary>Status, features and queues; from the moment a transport has taken the device.</summary>
    public VirtioControl Control
    {
        get => _control ?? throw new InvalidOperationException($"{Name} has no transport");
        internal set => _control = value;
    }

    /// <summary>The configuration structure, little endian.</summary>
    protected byte[] ConfigSpace { get; } = new byte[configSize];  // not migrated: constant, or a device's own fields

    /// <summary>The driver reads; the range is inside the structure.</summary>
    public virtual void ReadConfig(int offset, Span<byte> data) => ConfigSpace.AsSpan(offset, data.Length).CopyTo(data);

    /// <summary>The driver writes; the range is inside the structure.</summary>
    public virtual void WriteConfig(int offset, ReadOnlySpan<byte> data) { }

    /// <summary>The data path of a queue that has one outside the machine lock; its kicks ring there and not
    /// <see cref="Kick"/>.</summary>
    public virtual IMovedQueue? QueueOf(int index) => null;

    /// <summary>Runs work on the main loop under the machine lock: for what a <see cref="LoopQueue"/> cannot do
    /// itself.</summary>
    public Action<Action> Post { get; init; } = static work => work();

    /// <summary>From any thread: all processors wait for an interrupt. False where nobody knows.</summary>
    public Func<bool> IsGuestAsleep { get; init; } = static () => false;

    /// <summary>DRIVER_OK, or loaded state in which it was set: <paramref name="features"/> are negotiated.</summary>
    public abstract void Start(IReadOnlyList<Virtqueue> queues, ulong features);

    /// <summary>The driver resets the device: no request of a queue under the machine lock is in flight when it
    /// returns.</summary>
    public abstract void Stop();

    /// <summary>Buffers were made available; only while started.</summary>
    public abstract void Kick(Virtqueue queue);

    /// <summary>Power-on values; the device is stopped.</summary>
    public abstract void Reset();

    /// <summary>Each mutable field of its own, saved while nothing is in flight.</summary>
    public abstract void Exchange(StateStream state);
}

/// <summary>What carries a virtio device's interrupts, and its way to guest memory.</summary>
public interface IVirtioTransport
{
    Memory.Dma Dma { get; }

    /// <summary>Hears of drivers' mistakes; null: nobody.</summary>
    Logging.MachineLog? Log => null;

    /// <summary>"Used buffer notification", section 2.9. Under the machine lock.</summary>
    void InterruptQueue(Virtqueue queue);

    /// <summary>As <see cref="InterruptQueue"/>, from any thread; false where it needs the lock: nothing has happened
    /// then.</summary>
    bool TryInterruptQueue(Virtqueue queue) => false;

    /// <summary>"Configuration change notification".</summary>
    void InterruptConfig();
}

/// <summary>Indices as the ring counts them.</summary>
/// <param name="InUse">Chains that were popped and not returned.</param>
public readonly record struct QueueProgress(int InUse, ushort Used, ushort Available, ushort Signalled,
    bool HasSignalled);

/// <summary>A queue as devices see it; split or packed. Virtio 1.2, sections 2.6 to 2.8.</summary>
/// <remarks>A driver that breaks the rules stops the device (<see cref="VirtioControl.Fail"/>): then nothing is popped
/// any more until a reset. Popped chains are the queue's own, and go back to it by Fill, Push or Unpop.</remarks>
public abstract class Virtqueue(QueueSetup setup)
{
    /// <summary>Chains that a device takes in one kick at most, several times the largest ring: a driver that gives
    /// more meanwhile must not keep the machine's lock.</summary>
    public const int Burst = 4096;

    public QueueSetup Setup { get; } = setup;
    public int Index => Setup.Index;

    /// <summary>Where it is, for people who look: exact while nothing moves.</summary>
    public abstract QueueProgress Progress { get; }

    /// <summary>Chains that wait to be popped.</summary>
    public abstract int Available { get; }

    /// <summary>Takes the next chain of buffers; false when there is none or the driver lied.</summary>
    public abstract bool TryPop([NotNullWhen(true)] out DescriptorChain? chain);

    /// <summary>Puts the chain back that was popped last.</summary>
    public abstract void Unpop(DescriptorChain chain);

    /// <summary>Returns a chain, of which <paramref name="written"/> bytes were written; the driver sees it after
    /// Flush.</summary>
    public abstract void Fill(DescriptorChain chain, uint written);

    /// <summary>Shows all filled chains to the driver at once.</summary>
    public abstract void Flush();

    /// <summary>Interrupts the driver about used buffers, unless it wants none (NO_INTERRUPT, used_event).</summary>
    public abstract void Signal();

    /// <summary>Asks the driver not to kick; a hint.</summary>
    public abstract void DisableKicks();

    /// <summary>Asks for kicks again; true if buffers came meanwhile, whose kick was suppressed.</summary>
    /// <param name="except">Chains that wait already and do not count.</param>
    public abstract bool EnableKicks(int except = 0);

    /// <summary>Where the device takes the next chain, as the vhost-user protocol says it in SET_VRING_BASE.</summary>
    public abstract uint Position { get; }

    /// <summary>The same after somebody else served the queue and is gone; null: nobody knows.</summary>
    public abstract uint? PositionAfterLoss { get; }

    /// <summary>Of a queue that somebody else serves, whose writes nobody sees here: what the driver gave to be written
    /// since the last call counts as written, so that no code that was there is run any more. One thread at a time, as
    /// <see cref="PositionAfterLoss"/>.</summary>
    public virtual void AnnounceGiven() { }

    /// <summary>Fill and Flush.</summary>
    public void Push(DescriptorChain chain, uint written)
    {
        Fill(chain, written);
        Flush();
    }

    internal abstract void Reset();
    internal abstract void Exchange(StateStream state);
}

/// <summary>What the driver programmed for a queue through the transport's registers.</summary>
public sealed class QueueSetup(int index, int maxSize)
{
    ulong _descriptors, _driverArea, _deviceArea;
    ushort _size = (ushort)maxSize;
    bool _enabled;
    ushort _vector = NoVector;

    /// <summary>VIRTIO_MSI_NO_VECTOR.</summary>
    public const ushort NoVector = 0xFFFF;

    public int Index { get; } = index;
    public int MaxSize { get; } = maxSize;
    public ushort Size { get => _size; set => _size = value; }
    public bool Enabled { get => _enabled; set => _enabled = value; }

    /// <summary>Descriptor table (split) or ring (packed).</summary>
    public ulong Descriptors { get => _descriptors; set => _descriptors = value; }

    /// <summary>Available ring, or driver event suppression.</summary>
    public ulong DriverArea { get => _driverArea; set => _driverArea = value; }

    /// <summary>Used ring, or device event suppression.</summary>
    public ulong DeviceArea { get => _deviceArea; set => _deviceArea = value; }

    /// <summary>The MSI-X vector, for transports that have them.</summary>
    public ushort Vector { get => _vector; set => _vector = value; }

    internal void Reset()
    {
        (_descriptors, _driverArea, _deviceArea) = (0, 0, 0);
        (_size, _enabled, _vector) = ((ushort)MaxSize, false, NoVector);
    }

    internal void Exchange(StateStream state)
    {
        state.Field("size", ref _size);
        state.Field("enabled", ref _enabled);
        state.Field("descriptors", ref _descriptors);
        state.Field("driver-area", ref _driverArea);
        state.Field("device-area", ref _deviceArea);
        state.Field("vector", ref _vector);
        if (_size == 0 || _size > MaxSize) throw new InvalidStateException($"virtio queue {Index}: size {_size}");
    }
}
