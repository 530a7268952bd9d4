using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>A virtio device without a transport: it becomes whole on a bus of one.</summary>
/// <param name="ring">What its rings offer.</param>
public sealed class VirtioBusDevice(VirtioDevice device, ulong ring) : IDevice
{
    /// <summary>The one that it is plugged into.</summary>
    public IVirtioTransport? Transport { get; internal set; }

    public VirtioDevice Device { get; } = device;
    public ulong RingFeatures { get; } = ring;

    public string Name => Device.Name;

    T? IDevice.Facet<T>() where T : class => Device as T ?? this as T;

    public string BootPathEnd => "/disk@0,0";

    /// <summary>The transport resets it.</summary>
    public void Reset() { }

    public void Exchange(StateStream state) => Device.Control.Exchange(state.Group("virtio"));
}
