using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>Console device: up to 511 ports on one function, each a stream of bytes both ways. Virtio 1.2, section
/// 5.3.</summary>
/// <remarks>Its bus has the ports (<see cref="VirtioSerialPort"/>). Bytes wait where they are, in the guest's buffers
/// or at the backend, until the other side takes them: no port has a buffer of its own.</remarks>
public sealed partial class VirtioSerial : VirtioDevice, IBusWires
{
    const ulong SizeFeature = 1 << 0, MultiportFeature = 1 << 1, EmergencyWriteFeature = 1 << 2;   // 5.3.3
    const int Columns = 0, Rows = 2, MaxPorts = 4, EmergencyWrite = 8, ConfigLength = 12; // virtio_console_config
    const int ControlReceive = 2, ControlTransmit = 3;             // queues, 5.3.2
    const int PortQueueSize = 128, ControlQueueSize = 32;

    readonly VirtioSerialPort?[] _ports;
    readonly int[] _queueSizes;
    readonly bool _hasEmergencyWrite;
    readonly IVirtualClock _clock;
    readonly IVmTimer _goOn;
    IReadOnlyList<Virtqueue>? _queues;                             // not migrated: null while stopped
    bool _isMultiport;                                             // not migrated: a feature

    public VirtioSerial(string name, IVirtualClock clock, int ports, bool hasEmergencyWrite)
        : base(name, 3, hasEmergencyWrite ? ConfigLength : EmergencyWrite)
    {
        (_clock, _hasEmergencyWrite) = (clock, hasEmergencyWrite);
        _ports = new VirtioSerialPort?[ports];
        _owed = new byte[ports];
        _queueSizes = new int[2 * (ports + 1)];
        Array.Fill(_queueSizes, PortQueueSize);
        _queueSizes[ControlReceive] = _queueSizes[ControlTransmit] = ControlQueueSize;
        _goOn = clock.CreateTimer(GoOn);
        BinaryPrimitives.WriteInt32LittleEndian(ConfigSpace.AsSpan(MaxPorts), ports);
    }

    public override IReadOnlyList<int> QueueSizes => _queueSizes;

    public override ulong OfferedFeatures => (_ports.Length > 1 ? MultiportFeature : 0)
        | (_hasEmergencyWrite ? EmergencyWriteFeature : 0) | (FirstConsole?.WindowSize != null ? SizeFeature : 0);

    VirtioSerialPort? FirstConsole => Array.Find(_ports, static port => port is { IsConsole: true });

    public override void ReadConfig(int offset, Span<byte> data)
    {
        (ushort columns, ushort rows) = FirstConsole?.WindowSize ?? default;
        BinaryPrimitives.WriteUInt16LittleEndian(ConfigSpace.AsSpan(Columns), columns);
        BinaryPrimitives.WriteUInt16LittleEndian(ConfigSpace.AsSpan(Rows), rows);
        base.ReadConfig(offset, data);
    }

    /// <summary>emerg_wr is a character for who cannot set up queues (section 5.3.4).</summary>
    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if (offset == EmergencyWrite) FirstConsole?.WriteAtOnce(data[0]);
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        _queues = queues;
        _isMultiport = (features & MultiportFeature) != 0;
    }

    public override void Stop()
    {
        _queues = null;
        _goOn.Cancel();
    }

    /// <summary>Buffers for a port that is not there are left alone.</summary>
    public override void Kick(Virtqueue queue)
    {
        if (queue.Index == ControlTransmit) Obey(queue);
        else if (queue.Index == ControlReceive) Tell();
        else if (queue.Index % 2 == 0) PortOf(queue)?.Refilled();
        else PortOf(queue)?.Send();
    }

    public override void Reset()
    {
        _isReady = false;
        Array.Clear(_owed);
        foreach (VirtioSerialPort? port in _ports) port?.Reset();
    }

    public override void Exchange(StateStream state)
    {
        state.Field("ready", ref _isReady);
        state.Block("owed", _owed);
        foreach (byte owed in _owed)
            if (owed >> Messages.Length != 0) throw new InvalidStateException($"{Name}: owed messages {owed:x}");
        if (state.IsLoading) Post(GoOn);                           // backends here may have more, or take more
    }

    /// <summary>A driver without multiport has port 0 alone, always open (section 5.3.5).</summary>
    internal bool IsAlwaysOpen(VirtioSerialPort port) => _queues != null && !_isMultiport && port.Number == 0;

    /// <summary>Of a port; null while the driver has not set it up.</summary>
    internal Virtqueue? ReceiveQueue(int port) => _queues?[port == 0 ? 0 : 2 * (port + 1)];
    internal Virtqueue? TransmitQueue(int port) => _queues?[port == 0 ? 1 : 2 * (port + 1) + 1];

    /// <summary>The terminal behind a console has another size; drivers without multiport look at the
    /// configuration.</summary>
    internal void Resized(VirtioSerialPort port, bool isReady)
    {
        if (isReady) Owe(port.Number, OwesSize);
        if (port == FirstConsole) Control.ConfigChanged();
    }

    /// <summary>All queues are looked at again, after others had their turn on the main loop.</summary>
    internal void GoOnSoon() => _goOn.ArmAt(_clock.Nanoseconds);

    void GoOn()
    {
        for (int i = 0; _queues is { } queues && i < queues.Count; i++)
            if (queues[i].Setup.Enabled) Kick(queues[i]);
    }

    VirtioSerialPort? PortOf(Virtqueue queue)
    {
        int port = queue.Index < ControlReceive ? 0 : queue.Index / 2 - 1;
        return _isMultiport || port == 0 ? _ports[port] : null;
    }

    bool IBusWires.IsFull => Array.IndexOf(_ports, null) < 0;

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site)
    {
        var port = (VirtioSerialPort)device;
        int? wanted = (int?)properties.NumberOrAuto("nr");
        if (port.PortName is { } name && Array.Exists(_ports, other => other?.PortName == name))
            throw properties.Error($"virtio-serial-bus: A port already exists by name {name}");
        if (wanted is { } taken && taken < _ports.Length && _ports[taken] != null)
            throw properties.Error($"virtio-serial-bus: A port already exists at id {taken}");
        if (wanted == 0 && !port.IsConsole)
            throw properties.Error("Port number 0 on virtio-serial devices reserved for virtconsole devices for "
                + "backward compatibility; leave nr= out, or give 1 or more");
        int first = port.IsConsole && _ports[0] == null ? 0 : 1;
        int number = wanted ?? Array.FindIndex(_ports, Math.Min(first, _ports.Length), static place => place == null);
        if (number < 0)
            throw properties.Error("virtio-serial-bus: Maximum port limit for this device reached; give it more with "
                + "max_ports=");
        if (number >= _ports.Length)
            throw properties.Error("virtio-serial-bus: Out-of-range port id specified, max. allowed: "
                + $"{_ports.Length - 1}");
        _ports[number] = port;
        site.OnLeave(() =>
        {
            _ports[number] = null;
            Removed(number);
        });
        port.Plug(this, number);
        Added(number);
    }

    string IBusWires.PathOf(IDevice device) => $"virtio-serial@{((VirtioSerialPort)device).Number:x}";
}
