namespace Qkvm.Host;

/// <summary>Memory of this process that the guest has at an address.</summary>
public readonly record struct VhostMemory(ulong Address, ulong Size, ulong HostAddress);

/// <summary>A ring, by its parts' addresses in this process.</summary>
public readonly record struct VhostRingPlaces(ulong Descriptors, ulong DriverArea, ulong DeviceArea);

/// <summary>A kernel's vhost device: linux/vhost.h. Each call throws a <see cref="HostException"/> where the kernel
/// refuses.</summary>
public interface IVhostFile : IDisposable
{
    /// <summary>VHOST_GET_FEATURES.</summary>
    ulong Features { get; }

    void SetFeatures(ulong features);

    /// <summary>VHOST_SET_MEM_TABLE.</summary>
    void SetMemory(ReadOnlySpan<VhostMemory> memory);

    /// <summary>VHOST_SET_VRING_NUM, _BASE and _ADDR.</summary>
    void SetRing(int ring, int size, uint position, VhostRingPlaces places);

    /// <summary>VHOST_SET_VRING_CALL and _KICK.</summary>
    void SetSignals(int ring, WakeEvent call, WakeEvent kick);

    /// <summary>VHOST_VSOCK_SET_GUEST_CID.</summary>
    void SetGuestCid(ulong cid);

    /// <summary>VHOST_VSOCK_SET_RUNNING: from and to then on the kernel uses the rings.</summary>
    void SetVsockRunning(bool isRunning);
}
