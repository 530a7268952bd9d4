using Qkvm.Core.Memory;

namespace Qkvm.Core.Virtio;

/// <summary>Where a virtqueue's data moves outside the machine lock: on a loop of ours (<see cref="LoopQueue"/>), or in
/// another process.</summary>
public interface IMovedQueue
{
    /// <summary>The driver's kick.</summary>
    Doorbell Doorbell { get; }

    /// <summary>DRIVER_OK, or loaded state in which it was set; once more means that chains wait. Under the machine
    /// lock.</summary>
    void Start(Virtqueue queue);

    /// <summary>Takes no more chains; completes when none is in flight, on any thread. Under the machine
    /// lock.</summary>
    ValueTask StopAsync();
}
