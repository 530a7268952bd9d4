using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Features = Qkvm.Hw.Virtio.VirtioNetFeatures;

namespace Qkvm.Hw.Virtio;

/// <summary>What shapes a virtio network device.</summary>
/// <param name="Features">Of <see cref="VirtioNetFeatures"/>, those that the user allows.</param>
/// <param name="Pairs">Of receive and transmit queues.</param>
/// <param name="Speed">Mbit/s, or null for a device that does not say.</param>
public sealed record VirtioNetOptions(int ReceiveQueueSize = 256, int TransmitQueueSize = 256,
    ulong Features = Features.Default, int Pairs = 1, ushort Mtu = 0, uint? Speed = null, bool? FullDuplex = null);

/// <summary>Network device. Virtio 1.2, section 5.1.</summary>
/// <remarks>Frames move on a loop outside the machine lock: <see cref="VirtioNetReceiver"/>,
/// <see cref="VirtioNetTransmitter"/>. What the backend cannot do is not offered to the driver.
/// Deviation: no UDP fragmentation.</remarks>
public sealed partial class VirtioNet : VirtioDevice, INetCard
{
    // struct virtio_net_config, 5.1.4
    const int MacField = 0, StatusField = 6, MaxPairsField = 8, MtuField = 10, SpeedField = 12, DuplexField = 16,
        KeySizeField = 17, TableLengthField = 18, HashTypesField = 20, ShortConfig = 12, SpeedConfig = 17,
        FullConfig = 24;
    const ushort LinkUp = 1, AnnounceWanted = 2;
    const int ControlQueueSize = 64;

    /// <summary>struct virtio_net_hdr, 5.1.6; a legacy driver without mergeable buffers knows no num_buffers, and only
    /// HASH_REPORT adds a hash.</summary>
    internal const int HashHeader = 20, FullHeader = 12, ShortHeader = NetHeader.Length;

    internal const int EthernetHeader = 14;

    readonly VirtioNetOptions _options;
    readonly NetBackend? _backend;
    readonly byte[] _permanentMac;
    readonly int[] _queueSizes;
    readonly VirtioNetReceiver[] _receivers;
    readonly VirtioNetTransmitter[] _transmitters;
    readonly IoLoop _loop;
    readonly IVhostNet? _vhost;                                    // serves the rings instead of the two above
    readonly VhostNetQueue[] _vhostQueues = [];
    readonly VirtioNetControl _control;
    readonly Action _serveControl;
    volatile VirtioNetFilter _filter = new();                      // replaced whole
    volatile VirtioNetSteering? _steering;                         // as the filter
    ulong _features;                                               // not migrated: the transport saves it
    Virtqueue? _controlQueue;                                      // not migrated: as the features say
    int _controlPosted;                                            // not migrated: Start looks for what is left
    ulong _guestOffloads;
    int _pairs = 1;                                                // in use
    volatile bool _linkUp = true;                                  // not migrated: the monitor's
    bool _announce;
    bool _tellsFilter = true;                                      // not migrated: of this host's user

    /// <param name="backend">Null for a card whose cable is not plugged.</param>
    /// <param name="loop">Where frames move.</param>
    /// <param name="post">Runs work on the main loop under the machine lock.</param>
    public VirtioNet(string name, NetBackend? backend, byte[] mac, VirtioNetOptions options, IoLoop loop,
        Action<Action> post, Func<bool>? isGuestAsleep = null)
        : base(name, 1, (options.Features & (Features.Rss | Features.HashReport)) != 0 ? FullConfig
            : options.Speed != null ? SpeedConfig : ShortConfig)
    {
        Post = post;
        if (isGuestAsleep != null) IsGuestAsleep = isGuestAsleep;
        (_options, _backend, _permanentMac, _loop) = (options, backend, mac, loop);
        _vhost = backend?.Vhost;
        if (_vhost is { } peer)
        {
            ulong possible = ~(Features.OfVhost | Features.NotOfVhost) | peer.Features & Features.OfVhost;
            _options = options = options with { Features = options.Features & possible };
            _vhostQueues = new VhostNetQueue[2 * options.Pairs];
            for (int i = 0; i < _vhostQueues.Length; i++) _vhostQueues[i] = new VhostNetQueue(this, peer, loop, i);
            peer.Changed += PeerChanged;
            peer.Failed += PeerFailed;
        }
        bool hasControl = (options.Features & Features.CtrlVq) != 0;
        _queueSizes = new int[2 * options.Pairs + (hasControl ? 1 : 0)];
        if (hasControl) _queueSizes[^1] = ControlQueueSize;
        _receivers = new VirtioNetReceiver[options.Pairs];
        _transmitters = new VirtioNetTransmitter[options.Pairs];
        for (int i = 0; i < options.Pairs; i++)
        {
            (_queueSizes[2 * i], _queueSizes[2 * i + 1]) = (options.ReceiveQueueSize, options.TransmitQueueSize);
            _receivers[i] = new VirtioNetReceiver(this, loop, 2 * i);
            _transmitters[i] = new VirtioNetTransmitter(this, _receivers[i], loop, 2 * i + 1);
        }
        _control = new VirtioNetControl(this);
        _serveControl = ServeControl;
        OfferedFeatures = Features.Mac | Features.Possible(options.Features | (options.Pairs > 1 ? Features.Mq : 0)
            | (options.Mtu != 0 ? Features.Mtu : 0) | (options.Speed != null ? Features.SpeedDuplex : 0),
            backend?.Takes ?? NetOffloads.None, backend?.Gives ?? NetOffloads.None);
        Reset();
        OpenPairs(1);
    }

    public override IReadOnlyList<int> QueueSizes => _queueSizes;
    public override ulong OfferedFeatures { get; }

    /// <summary>The address now; the driver may change it.</summary>
    public ReadOnlySpan<byte> CurrentMac => ConfigSpace.AsSpan(MacField, MacAddress.Length);

    NetBackend? INetCard.Backend => _backend;
    ReadOnlySpan<byte> INetCard.Mac => CurrentMac;

    public bool IsLinkUp => _linkUp && _backend != null && _vhost?.IsConnected != false;

    public override ulong PossibleRingFeatures => _vhost is { } peer
        ? peer.Features & ~VirtioFeatures.AccessPlatform : ulong.MaxValue;

    // What the queues ask, on their loop: it changes while they are stopped, or whole.

    internal int HeaderLength =>
        (_features & Features.HashReport) != 0 ? HashHeader
            : (_features & (VirtioFeatures.Version1 | Features.MrgRxBuf)) != 0 ? FullHeader : ShortHeader;
    internal bool IsMergeable => (_features & Features.MrgRxBuf) != 0;
    internal NetOffloads Sending { get; private set; }
    internal NetOffloads Receiving { get; private set; }

    /// <summary>Of received frames.</summary>
    internal VirtioNetFilter Filter => _filter;

    /// <summary>How received frames are hashed and spread; null: they stay where the backend puts them.</summary>
    internal VirtioNetSteering? Steering => _steering;

    internal VirtioNetReceiver ReceiverOf(int pair) => _receivers[pair];

    /// <summary>5.1.2: without MQ and RSS, control is the queue after the first pair.</summary>
    internal bool IsControl(int index) => (_features & Features.CtrlVq) != 0 && index == 2 * MaxPairs;

    internal int MaxPairs => (_features & Features.Pairs) != 0 ? _options.Pairs : 1;

    /// <summary>set_link of the monitor.</summary>
    public void SetLink(bool up)
    {
        if (_linkUp == up) return;
        _linkUp = up;
        Control.ConfigChanged();
    }

    /// <summary>By a frame of the card's own, and by what the guest sends when the status asks for it.</summary>
    public void Announce()
    {
        if (IsLinkUp && _vhost == null) _transmitters[0].Announce();
        if ((_features & Features.GuestAnnounce) == 0 || _announce) return;
        _announce = true;
        Control.ConfigChanged();
    }

    /// <summary>The filter changed for the first time since it was asked for. Under the machine lock.</summary>
    public Action FilterChanged { private get; init; } = static () => { };

    public ReceiveFilter QueryFilter()
    {
        _tellsFilter = true;
        return _filter.Describe(CurrentMac, (_features & Features.CtrlVlan) != 0);
    }

    /// <summary>A command of the driver changed it.</summary>
    internal void TellFilter()
    {
        if (!_tellsFilter) return;
        _tellsFilter = false;
        FilterChanged();
    }

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> config = ConfigSpace;
        ushort status = (ushort)((IsLinkUp ? LinkUp : 0) | (_announce ? AnnounceWanted : 0));
        BinaryPrimitives.WriteUInt16LittleEndian(config[StatusField..], status);
        BinaryPrimitives.WriteUInt16LittleEndian(config[MaxPairsField..], (ushort)_options.Pairs);
        BinaryPrimitives.WriteUInt16LittleEndian(config[MtuField..], _options.Mtu);
        if (_options.Speed is { } speed)
        {
            const byte Half = 0, Full = 1, Unknown = 0xFF;
            BinaryPrimitives.WriteUInt32LittleEndian(config[SpeedField..], speed);
            config[DuplexField] = _options.FullDuplex switch { true => Full, false => Half, _ => Unknown };
        }
        if (ConfigSize == FullConfig)
        {
            config[KeySizeField] = VirtioNetSteering.MostKey;
            BinaryPrimitives.WriteUInt16LittleEndian(config[TableLengthField..], VirtioNetSteering.MostEntries);
            BinaryPrimitives.WriteUInt32LittleEndian(config[HashTypesField..], VirtioNetSteering.SupportedTypes);
        }
        base.ReadConfig(offset, data);
    }

    /// <summary>Legacy drivers set the address here; modern ones by the control queue (5.1.4.2).</summary>
    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if ((Control.Features & VirtioFeatures.Version1) != 0 || offset + data.Length > MacAddress.Length) return;
        Span<byte> mac = stackalloc byte[MacAddress.Length];
        CurrentMac.CopyTo(mac);
        data.CopyTo(mac[offset..]);
        SetMac(mac);
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        _features = features;
        _controlQueue = (features & Features.CtrlVq) == 0 ? null
            : queues[2 * MaxPairs];
        _vhost?.Start(features, VhostRegion.Of(Control.Transport.Dma.Memory.View));
        Sending = Features.Sending(features);
        Change(filter => filter.SetVlanFiltering((features & Features.CtrlVlan) != 0));
        SetGuestOffloads(features & Features.GuestOffloads);
    }

    public override void Stop() => _controlQueue = null;

    public override void Kick(Virtqueue queue)
    {
        if (queue == _controlQueue) _control.Process(queue);
    }

    public override IMovedQueue? QueueOf(int index) => index >= 2 * _options.Pairs ? null
        : _vhost != null ? _vhostQueues[index]
        : index % 2 == 0 ? _receivers[index / 2] : _transmitters[index / 2];

    public override void Reset()
    {
        _filter = new VirtioNetFilter();
        SetMac(_permanentMac);
        (_features, _announce, Sending) = (0, false, NetOffloads.None);
        Steer(null);
        OpenPairs(1);
        SetGuestOffloads(0);
    }

    public override void Exchange(StateStream state)
    {
        if (_vhost != null && Control.IsStarted)
            throw new InvalidStateException($"{Name}: a vhost-user peer serves the card; stop its driver first");
        state.Block("mac", ConfigSpace.AsSpan(MacField, MacAddress.Length));
        state.Field("announce", ref _announce);
        state.Field("pairs", ref _pairs);
        state.Field("guest-offloads", ref _guestOffloads);
        VirtioNetFilter filter = _filter.Copy();
        filter.Exchange(state.Group("filter"));
        VirtioNetSteering? steering = _steering;
        VirtioNetSteering.Exchange(state.Group("steering"), ref steering, _options.Pairs);
        if (!state.IsLoading) return;
        _features = Control.IsStarted ? Control.Features : 0;
        if (_pairs < 1 || _pairs > MaxPairs) throw state.Refuse("pairs", $"{_pairs} of {MaxPairs}");
        filter.SetMac(CurrentMac);
        _filter = filter;
        OpenPairs(_pairs);
        Steer(steering);
        SetGuestOffloads(_guestOffloads & _features & Features.GuestOffloads);
    }

    /// <summary>The card is unplugged: the backend is another's. Under the machine lock.</summary>
    public void Close()
    {
        foreach (VirtioNetReceiver receiver in _receivers)
        {
            receiver.Wire?.Dispose();
            receiver.Wire = null;
        }
        if (_vhost == null) return;
        _vhost.Changed -= PeerChanged;
        _vhost.Failed -= PeerFailed;
    }

    void PeerChanged() => Post(Control.ConfigChanged);             // the link went or came

    void PeerFailed(string why) => Control.FailOnLoop(why);

    /// <summary>VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET.</summary>
    internal bool SetPairs(int pairs)
    {
        if (MaxPairs == 1 || pairs < 1 || pairs > MaxPairs) return false;
        Steer(null);
        OpenPairs(pairs);
        return true;
    }

    /// <summary>VIRTIO_NET_CTRL_MQ_RSS_CONFIG and _HASH_CONFIG.</summary>
    internal bool SetSteering(ReadOnlySpan<byte> config, bool steers)
    {
        if ((_features & (steers ? Features.Rss : Features.HashReport)) == 0
            || VirtioNetSteering.Read(config, steers, MaxPairs, out int pairs) is not { } steering) return false;
        if (steers)
        {
            if (pairs < 1 || pairs > MaxPairs) return false;
            OpenPairs(pairs);
        }
        Steer(steering.IsUseful ? steering : null);
        return true;
    }

    /// <summary>VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET.</summary>
    internal bool SetGuestOffloads(ulong offloads)
    {
        if ((offloads & ~(_features & Features.GuestOffloads)) != 0) return false;
        _guestOffloads = offloads;
        Receiving = Features.Receiving(offloads);
        foreach (VirtioNetReceiver receiver in _receivers) receiver.Wire?.Accept(Receiving);
        return true;
    }

    internal void SetMac(ReadOnlySpan<byte> mac)
    {
        mac.CopyTo(ConfigSpace.AsSpan(MacField));
        Change(static _ => { });
    }

    /// <summary>Frames that come from now on pass a filter that has been changed so.</summary>
    internal void Change(Action<VirtioNetFilter> change)
    {
        VirtioNetFilter filter = _filter.Copy();
        change(filter);
        filter.SetMac(CurrentMac);
        _filter = filter;
    }

    /// <summary>Frames that waited for one queue may be another's now.</summary>
    void Steer(VirtioNetSteering? steering)
    {
        if (_steering == steering) return;
        _steering = steering;
        ResumeAll();
    }

    internal void ResumeAll()
    {
        foreach (VirtioNetReceiver receiver in _receivers) receiver.Wire?.Resume();
    }

    /// <summary>Drivers hear at once of frames that came inside a wire's Send.</summary>
    internal void SignalReceived(VirtioNetReceiver pair)
    {
        if (_steering is not { Steers: true })
        {
            pair.SignalNow();
            return;
        }
        foreach (VirtioNetReceiver receiver in _receivers) receiver.SignalNow();
    }

    internal void AcknowledgeAnnounce() => _announce = false;

    /// <summary>The control queue was found to have work by a receiver in its place. From any thread.</summary>
    internal void ServeControlLater()
    {
        if (Interlocked.Exchange(ref _controlPosted, 1) == 0) Post(_serveControl);
    }

    void ServeControl()
    {
        Volatile.Write(ref _controlPosted, 0);
        if (_controlQueue is { } queue && Control.IsStarted) _control.Process(queue);
    }

    void OpenPairs(int pairs)
    {
        _pairs = pairs;
        _vhost?.SetPairs(pairs);
        if (_vhost != null) return;
        for (int i = 0; i < _receivers.Length; i++)
        {
            VirtioNetReceiver receiver = _receivers[i];
            if (i < pairs && receiver.Wire == null && _backend != null)
            {
                receiver.Wire = _backend.Open(i, receiver, _loop);
                receiver.Wire.Accept(Receiving);
            }
            else if (i >= pairs && receiver.Wire is { } wire)
            {
                receiver.Wire = null;
                wire.Dispose();
            }
        }
    }
}
