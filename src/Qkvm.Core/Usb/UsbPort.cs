using System.Numerics;

namespace Qkvm.Core.Usb;

/// <summary>What has ports: a host controller, or a hub. Under the machine lock.</summary>
public interface IUsbHost
{
    /// <summary>A device is on the port now.</summary>
    void Attached(UsbPort port);

    /// <summary>The device has left; its packets ended with <see cref="UsbStatus.NoDevice"/>.</summary>
    void Detached(UsbPort port);

    /// <summary>A device on this port, or below a hub on it, has something for an endpoint that answered NAK. A
    /// suspended port resumes where the device was allowed remote wake-up (USB 2.0, section 7.1.7.7).</summary>
    /// <param name="endpoint">Its address, direction included.</param>
    void Wake(UsbPort port, UsbDevice device, byte endpoint);
}

/// <summary>A place for one device.</summary>
/// <param name="index">Among the host's ports, from 0.</param>
/// <param name="path">As users write it: "1", or "1.2" for port 2 of the hub on port 1.</param>
public sealed class UsbPort(IUsbHost host, int index, UsbSpeeds speeds, string path)
{
    public IUsbHost Host { get; } = host;
    public int Index { get; } = index;
    public UsbSpeeds Speeds { get; private set; } = speeds;
    public string Path { get; private set; } = path;

    /// <summary>Null: none is there, or another port has it (a companion's).</summary>
    public UsbDevice? Device { get; private set; }

    /// <summary>Hubs between it and the controller.</summary>
    public int Depth => Path.Count(c => c == '.');

    public bool Takes(UsbDevice device) => (device.Speeds & Speeds) != 0;

    /// <summary>The fastest that both know, as chirps and training find it.</summary>
    public UsbSpeed SpeedOf(UsbDevice device) => (UsbSpeed)BitOperations.Log2((uint)(device.Speeds & Speeds) | 1);

    public void Attach(UsbDevice device)
    {
        Device = device;
        device.Port = this;
        device.Speed = SpeedOf(device);
        device.ResetBus();
        Host.Attached(this);
    }

    /// <summary>Ends what the device was doing.</summary>
    public void Detach()
    {
        if (Device is not { } device) return;
        device.ResetBus();
        device.Port = null;
        Device = null;
        Host.Detached(this);
    }

    /// <summary>Reset signalling: the device is as after attaching.</summary>
    public void Reset() => Device?.ResetBus();

    /// <summary>The device of this address, on the port or below a hub on it; null if none answers.</summary>
    public UsbDevice? Find(byte address) => Device?.Find(address);

    /// <summary>A companion's port, called as this one, has what is too slow for this one.</summary>
    public void TakeCompanion(UsbPort companion)
    {
        companion.Path = Path;
        Speeds |= companion.Speeds;
    }

    /// <summary>After loading a state: the device is here, and nobody hears of it.</summary>
    public void Restore(UsbDevice? device)
    {
        Device = device;
        if (device == null) return;
        device.Port = this;
        device.Speed = SpeedOf(device);
    }
}
