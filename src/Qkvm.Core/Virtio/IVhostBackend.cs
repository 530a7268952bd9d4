using Qkvm.Host;

namespace Qkvm.Core.Virtio;

/// <summary>A virtqueue as the peer learns of it.</summary>
/// <param name="Index">Of the ring; of a network's, the receiving one of a pair first.</param>
/// <param name="Descriptors">Guest addresses, as the next two.</param>
/// <param name="Position">Where the device goes on, as SET_VRING_BASE says it.</param>
/// <param name="PositionAfterLoss">The same for a peer that follows one that went without a word; null:
/// unknown.</param>
/// <param name="Kick">The driver has given chains.</param>
/// <param name="Call">The driver is to be interrupted.</param>
public sealed record VhostRing(int Index, int Size, ulong Descriptors, ulong DriverArea, ulong DeviceArea,
    uint Position, Func<uint?> PositionAfterLoss, WakeEvent Kick, WakeEvent Call);

/// <summary>Serves a device's rings by itself, in guest memory: another process, or the kernel. Under the machine
/// lock.</summary>
public interface IVhostBackend
{
    /// <summary>Feature bits of rings and device that it knows. Virtio 1.2, sections 5 and 6.</summary>
    ulong Features { get; }

    bool IsConnected { get; }

    /// <summary>Memory of this process alone is out of its reach.</summary>
    bool NeedsSharedMemory => true;

    /// <summary>It has gone, or another has come. Any thread.</summary>
    event Action Changed;

    /// <summary>A ring cannot go on: the driver must reset its device. Any thread.</summary>
    event Action<string> Failed;

    /// <summary>DRIVER_OK: what rings then use.</summary>
    void Start(ulong features, IReadOnlyList<VhostRegion> memory);

    /// <summary>Memory came or went while rings are served.</summary>
    void SetMemory(IReadOnlyList<VhostRegion> memory);

    void StartRing(VhostRing ring);

    /// <summary>Completes, on any thread, when the peer leaves the ring alone, or has gone.</summary>
    Task StopRingAsync(int index);
}

/// <summary>Another process, which has the whole of a device: its configuration, too. Disposed of with the
/// device.</summary>
public interface IVhostUser : IVhostBackend, IDisposable
{
    /// <summary>As many queues as it has.</summary>
    int MaxQueues { get; }

    /// <summary>The device's configuration structure as the peer told it last. Replaced whole; any thread.</summary>
    byte[] Config { get; }

    /// <summary>Any thread.</summary>
    event Action ConfigChanged;

    /// <summary>The driver writes to the structure.</summary>
    void SetConfig(int offset, ReadOnlySpan<byte> data);
}

/// <summary>What a device asks of its peer.</summary>
/// <param name="Queues">That the peer must have.</param>
/// <param name="Loss">What it means that the peer goes, as the end of a line.</param>
public sealed record VhostUserNeeds(int Queues, string Loss)
{
    /// <summary>As many has a peer that does not say its number.</summary>
    public int Least { get; init; } = 1;

    /// <summary>The option, as messages name it.</summary>
    public string Owner { get; init; } = "";

    /// <summary>Bytes of the configuration structure that the peer keeps; 0 for a device that has its own.</summary>
    public int ConfigSize { get; init; }

    /// <summary>A peer that follows another goes on where that was; else its driver must reset the device.</summary>
    public bool Resumes { get; init; }
}

/// <summary>A chardev whose connections can carry the vhost-user protocol.</summary>
public interface IVhostUserSocket
{
    /// <summary>Waits for the first peer where the machine does not run yet.</summary>
    /// <exception cref="ConfigurationException">The peer is none, or cannot do what is needed.</exception>
    IVhostUser Serve(VhostUserNeeds needs);
}
