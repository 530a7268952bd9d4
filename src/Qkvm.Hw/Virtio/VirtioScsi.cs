using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Virtio;

/// <summary>What shapes a virtio SCSI host.</summary>
public sealed record VirtioScsiOptions
{
    public int Queues { get; init; } = 1;
    public int QueueSize { get; init; } = 256;
    public uint SegMax { get; init; } = 254;
    public uint MaxSectors { get; init; } = 65535;
    public uint CommandsPerUnit { get; init; } = 128;
    public bool HotPlug { get; init; } = true;
    public bool ParameterChange { get; init; } = true;
}

/// <summary>SCSI host device: units on a <see cref="ScsiBus"/>. Virtio 1.2, section 5.6. Any number of requests is in
/// flight, limited by the queues.</summary>
/// <remarks>Requests that read, write or flush stay on the loop; all others take the machine lock. Deviations: no
/// protection information, nor requests with data both ways.</remarks>
public sealed partial class VirtioScsi : VirtioDevice
{
    const ulong HotPlugFeature = 1 << 1, ChangeFeature = 1 << 2;   // 5.6.3

    // struct virtio_scsi_config, 5.6.4
    const int NumQueues = 0, SegMax = 4, MaxSectors = 8, CmdPerLun = 12, EventInfoSize = 16, SenseSizeField = 20,
        CdbSizeField = 24, MaxTarget = 30, MaxLun = 32, ConfigLength = 36;
    const int DefaultSenseSize = 96, DefaultCdbSize = 32, MostSenseSize = 65535, MostCdbSize = 255;
    const int LastTarget = 255, LastLun = 16383;

    const int ControlQueue = 0, EventQueue = 1, FirstRequestQueue = 2;

    readonly VirtioScsiOptions _options;
    readonly IoLoop _loop;
    readonly int[] _queueSizes;
    readonly VirtioScsiQueue[] _queues;
    IReadOnlyList<Virtqueue>? _started;                            // not migrated: null while stopped
    ulong _features;                                               // not migrated: those of the control
    uint _senseSize = DefaultSenseSize, _cdbSize = DefaultCdbSize;

    /// <param name="loop">Where the data moves.</param>
    /// <param name="post">Runs work on the main loop under the machine lock.</param>
    public VirtioScsi(string name, VirtioScsiOptions options, IoLoop loop, Action<Action> post,
        Func<bool>? isGuestAsleep = null) : base(name, 8, ConfigLength)
    {
        Post = post;
        if (isGuestAsleep != null) IsGuestAsleep = isGuestAsleep;
        (_options, _loop) = (options, loop);
        Bus = new ScsiBus(LastTarget, LastLun)
            { Attach = Attach, Plugged = OnPlugged, Unplugged = OnUnplugged };
        _queueSizes = new int[FirstRequestQueue + options.Queues];
        Array.Fill(_queueSizes, options.QueueSize);
        _queues = new VirtioScsiQueue[options.Queues];
        for (int i = 0; i < _queues.Length; i++) _queues[i] = new VirtioScsiQueue(this, loop, FirstRequestQueue + i);
        FillConfig();
    }

    public ScsiBus Bus { get; }

    /// <summary>Bytes of a request's header and of a response before the data.</summary>
    internal int HeaderLength => VirtioScsiRequest.CdbAt + (int)Volatile.Read(ref _cdbSize);
    internal int ResponseLength => VirtioScsiRequest.SenseAt + (int)Volatile.Read(ref _senseSize);

    public override IReadOnlyList<int> QueueSizes => _queueSizes;

    public override ulong OfferedFeatures => (_options.HotPlug ? HotPlugFeature : 0)
        | (_options.ParameterChange ? ChangeFeature : 0);

    public override LoopQueue? QueueOf(int index) =>
        index < FirstRequestQueue ? null : _queues[index - FirstRequestQueue];

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if (data.Length != 4 || offset is not (SenseSizeField or CdbSizeField)) return;
        uint value = BinaryPrimitives.ReadUInt32LittleEndian(data);
        bool isSense = offset == SenseSizeField;
        if (value > (isSense ? MostSenseSize : MostCdbSize) || !isSense && value < ScsiCdb.MaxLength)
            Control.Fail($"a {(isSense ? "sense" : "CDB")} size of {value} bytes");
        else if (isSense) Volatile.Write(ref _senseSize, value);
        else Volatile.Write(ref _cdbSize, value);
        FillConfig();
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) =>
        (_started, _features) = (queues, features);

    public override void Stop()
    {
        _started = null;
        AbandonTasks();
    }

    public override void Kick(Virtqueue queue)
    {
        if (queue.Index == ControlQueue) ObeyTasks(queue);
        else TellMissed();
    }

    public override void Reset()
    {
        (_senseSize, _cdbSize, _eventsMissed) = (DefaultSenseSize, DefaultCdbSize, false);
        foreach (ScsiDevice device in Bus.Devices) device.Reset();
        FillConfig();
    }

    public override void Exchange(StateStream state)
    {
        state.Field("sense-size", ref _senseSize);
        state.Field("cdb-size", ref _cdbSize);
        state.Field("events-missed", ref _eventsMissed);
        if (_senseSize > MostSenseSize) throw state.Refuse("sense-size", $"{_senseSize} bytes");
        if (_cdbSize is < ScsiCdb.MaxLength or > MostCdbSize) throw state.Refuse("cdb-size", $"{_cdbSize} bytes");
        FillConfig();
    }

    void FillConfig()
    {
        Span<byte> config = ConfigSpace;
        BinaryPrimitives.WriteInt32LittleEndian(config[NumQueues..], _options.Queues);
        BinaryPrimitives.WriteUInt32LittleEndian(config[SegMax..], _options.SegMax);
        BinaryPrimitives.WriteUInt32LittleEndian(config[MaxSectors..], _options.MaxSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(config[CmdPerLun..], _options.CommandsPerUnit);
        BinaryPrimitives.WriteInt32LittleEndian(config[EventInfoSize..], EventLength);
        BinaryPrimitives.WriteUInt32LittleEndian(config[SenseSizeField..], _senseSize);
        BinaryPrimitives.WriteUInt32LittleEndian(config[CdbSizeField..], _cdbSize);
        BinaryPrimitives.WriteUInt16LittleEndian(config[MaxTarget..], LastTarget);
        BinaryPrimitives.WriteInt32LittleEndian(config[MaxLun..], LastLun);
    }

    BlockQueue Attach(ScsiDevice device) => new(device.Unit.Backend, _loop, Settle);

    void OnPlugged(ScsiDevice device)
    {
        if (device.Unit is ScsiDisk) device.Unit.Changed = () => ParametersChanged(device, ScsiSense.CapacityChanged);
        if (_started == null) return;
        Send(TransportReset, device.Target, device.Unit.Lun, Rescan, HotPlugFeature);
        UnitsChanged();
    }

    void OnUnplugged(ScsiDevice device)
    {
        foreach (VirtioScsiQueue queue in _queues) queue.AwaitProcess();
        if (_started == null) return;
        Send(TransportReset, device.Target, device.Unit.Lun, Removed, HotPlugFeature);
        UnitsChanged();
    }

    void UnitsChanged()
    {
        foreach (ScsiDevice other in Bus.Devices) other.Unit.Attend(ScsiSense.UnitsChanged);
    }

    /// <summary>Requests have ended on the loop, on whichever queues they came.</summary>
    void Settle()
    {
        foreach (VirtioScsiQueue queue in _queues) queue.SettleEnded();
    }
}
