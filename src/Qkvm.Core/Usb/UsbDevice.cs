using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Core.Usb;

/// <summary>A USB device: a description as data, and what its endpoints and class requests do. Addresses,
/// configurations, descriptors, halted endpoints and the other requests of USB 2.0, chapter 9, are handled
/// here.</summary>
/// <remarks>A derived class is called under the machine lock, with what a hostile guest likes to send: a packet may
/// have any length.</remarks>
public abstract partial class UsbDevice(string name, UsbDescription description, Properties properties) : IDevice
{
    const int EndpointAddresses = 32;                              // 16 numbers, two directions
    const byte MaxAddress = 127;

    readonly List<UsbPacket> _pending = [];
    readonly UsbEndpoint?[] _endpoints = new UsbEndpoint?[EndpointAddresses];
    readonly byte[] _alternates = new byte[byte.MaxValue + 1];
    UsbControlPipe? _control;
    byte _address, _configuration;
    uint _halted;                                                  // by endpoint
    bool _mayWake;

    UsbControlPipe Control => _control ??= new UsbControlPipe(this);

    public string Name { get; } = name;

    /// <summary>Without its number: "storage", as boot paths have it.</summary>
    public virtual string PathName => Name.StartsWith("usb-", StringComparison.Ordinal) ? Name[4..] : Name;

    public UsbDescription Description { get; } = description;
    public UsbSpeeds Speeds => Description.Speeds;

    /// <summary>As monitors call it.</summary>
    public string Product => Description.Title ?? Description.Texts.ElementAtOrDefault(Description.Product - 1) ?? Name;

    /// <summary>Where users plugged it; null until then.</summary>
    public UsbPort? Place { get; private set; }

    /// <summary>Where it is now: at its place, or at a companion's port that stands for that; null: detached.</summary>
    public UsbPort? Port { get; internal set; }

    public UsbSpeed Speed { get; internal set; }

    /// <summary>0 until the host has given it one.</summary>
    public byte Address => _address;

    /// <summary>The host lets it wake a suspended port.</summary>
    public bool MayWake => _mayWake;

    /// <summary>The configuration that the host has chosen, or null.</summary>
    protected UsbConfiguration? Configuration => Layout?.Find(_configuration);

    UsbLayout? Layout => Description.At(Speed);

    // What a derived class has

    /// <summary>After power-on and after bus resets: no configuration is chosen.</summary>
    protected virtual void ResetDevice() { }

    /// <summary>Its own state, in one group.</summary>
    protected abstract void ExchangeDevice(StateStream state);

    /// <summary>A packet for an endpoint of the configuration, which is not halted. <see cref="UsbStatus.Stall"/> halts
    /// it; <see cref="UsbStatus.Pending"/> keeps the packet until <see cref="UsbPacket.Complete"/>.</summary>
    protected abstract UsbStatus Transfer(UsbPacket packet);

    /// <summary>A pending packet is taken back: afterwards its memory may be anybody's.</summary>
    protected virtual void CancelTransfer(UsbPacket packet) { }

    /// <summary>A class or vendor request, or a descriptor of an interface, that asks for data.</summary>
    /// <param name="answer">As much room as the host has, zeros.</param>
    /// <returns>Bytes of the answer, or <see cref="Stall"/>.</returns>
    protected virtual int AnswerRequest(in UsbSetup setup, Span<byte> answer) => Stall;

    /// <summary>A class or vendor request that brings data, or none.</summary>
    /// <returns>False: stall.</returns>
    protected virtual bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data) => false;

    /// <summary>Another configuration was chosen, or another alternate setting.</summary>
    protected virtual void OnConfigured() { }

    /// <summary>The host cleared a halt, which starts the endpoint anew.</summary>
    protected virtual void OnHaltCleared(byte endpoint) { }

    /// <summary>Its host shall see it: what is not there from the start comes later, by
    /// <see cref="FollowPresence"/>.</summary>
    protected internal virtual bool IsPresent => true;

    /// <summary><see cref="IsPresent"/> may have changed: at its place it comes or goes, as if a hand had pulled
    /// it.</summary>
    protected void FollowPresence()
    {
        if (!IsPresent) Port?.Detach();
        else if (Port == null) Place?.Attach(this);
    }

    /// <summary>It has been plugged: it may add ports of its own to the bus, with the site's help.</summary>
    protected virtual void OnPlugged(UsbBus bus, DeviceSite site) { }

    protected const int Stall = -1;

    /// <summary>Alternate setting of an interface.</summary>
    protected byte AlternateOf(byte number) => _alternates[number];

    /// <summary>An endpoint that answered NAK has something now.</summary>
    /// <param name="endpoint">Its address, direction included.</param>
    protected void Wake(byte endpoint) => Port?.Host.Wake(Port, this, endpoint);

    // What hosts call

    /// <summary>Carries out a packet, or begins to.</summary>
    public UsbStatus Handle(UsbPacket packet)
    {
        if (packet.Endpoint == 0) return packet.End(Control.Handle(packet));
        int index = IndexOf(packet.EndpointAddress);
        if (packet.Token == UsbToken.Setup || _endpoints[index] == null || (_halted >> index & 1) != 0)
            return packet.End(UsbStatus.Stall);
        packet.Device = this;
        _pending.Add(packet);
        UsbStatus status = Transfer(packet);
        if (status == UsbStatus.Pending) return packet.End(status);
        Release(packet);
        if (status == UsbStatus.Stall) _halted |= 1u << index;
        return packet.End(status);
    }

    /// <summary>The device of this address: this one, or of a hub one below it.</summary>
    public virtual UsbDevice? Find(byte address) => address == _address ? this : null;

    /// <summary>What the endpoint is now; null: the configuration has none such.</summary>
    /// <param name="address">Direction included.</param>
    public UsbEndpoint? FindEndpoint(byte address) => _endpoints[IndexOf(address)];

    public void Reset() => ResetBus();

    public void Exchange(StateStream state)
    {
        byte speed = (byte)Speed;
        state.Field("speed", ref speed);
        state.Field("address", ref _address);
        state.Field("configuration", ref _configuration);
        state.Field("halted", ref _halted);
        state.Field("may-wake", ref _mayWake);
        state.Block("alternates", _alternates);
        if (speed > (byte)UsbSpeed.Super) throw state.Refuse("speed", $"{speed} is none");
        if (_address > MaxAddress) throw state.Refuse("address", $"{_address} is none");
        Speed = (UsbSpeed)speed;
        if (_configuration != 0 && Configuration == null)
            throw state.Refuse("configuration", $"{_configuration} is none");
        if (state.IsLoading) FindEndpoints();
        Control.Exchange(state.Group("control"));
        ExchangeDevice(state.Group("device"));
    }

    internal void Plug(UsbBus bus, UsbPort port, DeviceSite site)
    {
        (Place, Speed) = (port, port.SpeedOf(this));
        if (_serial.Length == 0) _serial = DefaultSerial(site);
        OnPlugged(bus, site);
    }

    /// <summary>As after power-on, but where it is.</summary>
    internal void ResetBus()
    {
        EndPending();
        _address = 0;
        _mayWake = false;
        Choose(0);
        Control.Reset();
        ResetDevice();
    }

    internal void Release(UsbPacket packet)
    {
        _pending.Remove(packet);
        packet.Device = null;
    }

    internal void Forget(UsbPacket packet)
    {
        CancelTransfer(packet);
        Release(packet);
    }

    /// <summary>What was under way ends with NoDevice, so that no host waits for it.</summary>
    void EndPending()
    {
        while (_pending.Count > 0)
        {
            UsbPacket packet = _pending[^1];
            CancelTransfer(packet);
            packet.Complete(UsbStatus.NoDevice);
        }
    }

    void Choose(byte configuration)
    {
        _configuration = configuration;
        _halted = 0;
        Array.Clear(_alternates);
        FindEndpoints();
    }

    void FindEndpoints()
    {
        Array.Clear(_endpoints);
        foreach (UsbInterface part in Configuration?.Interfaces ?? [])
            if (part.Alternate == _alternates[part.Number])
                foreach (UsbEndpoint endpoint in part.Endpoints) _endpoints[IndexOf(endpoint.Address)] = endpoint;
    }

    static int IndexOf(byte endpoint) => endpoint & 15 | (endpoint & UsbEndpoint.In) >> 3;
}
