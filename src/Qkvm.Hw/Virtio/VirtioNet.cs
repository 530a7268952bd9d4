using System.Buffers.Binary;
using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>What shapes a virtio network device.</summary>
public sealed record VirtioNetOptions(int ReceiveQueueSize = 256, int TransmitQueueSize = 256,
    bool MergeableBuffers = true,
    bool Status = true, bool ControlQueue = true, ushort Mtu = 0);

/// <summary>Network device. Virtio 1.2, section 5.1; one pair of queues and a control queue.</summary>
/// <remarks>Frames are received as fast as the guest gives buffers; until then the backend holds them.
/// Deviations: no checksum or segmentation offloads, no multiqueue.</remarks>
public sealed class VirtioNet : VirtioDevice, INetFrontend
{
    public static readonly DeviceModel[] Models =
        VirtioPciModels.Family("virtio-net-pci", "virtio network card", DeviceCategory.Network,
        0x020000,
        [
            Property.Netdev(), Property.Mac(), Property.Number("rx_queue_size", 256),
                Property.Number("tx_queue_size", 256),
            Property.Bool("mrg_rxbuf", true), Property.Bool("status", true), Property.Bool("ctrl_vq", true),
            Property.Number("host_mtu", 0, max: ushort.MaxValue),
        ],
        _ => 4, FromProperties);

    // Feature bits, 5.1.3
    const ulong MtuFeature = 1 << 3, Mac = 1 << 5, MrgRxBuf = 1 << 15, StatusFeature = 1 << 16, CtrlVq = 1 << 17,
        CtrlRx = 1 << 18, CtrlVlan = 1 << 19, CtrlRxExtra = 1 << 20, GuestAnnounce = 1 << 21, CtrlMacAddr = 1 << 23;

    // struct virtio_net_config, 5.1.4
    const int MacField = 0, StatusField = 6, MtuField = 10, ConfigLength = 12;
    const ushort LinkUp = 1, Announce = 2;

    // struct virtio_net_hdr, 5.1.6; a legacy driver without mergeable buffers knows no num_buffers
    const int FullHeader = 12, ShortHeader = 10, NumBuffers = 10;

    const int Receive0 = 0, Transmit0 = 1, ControlQueueIndex = 2;
    const int EthernetHeader = 14, LargestFrame = 65536;
    const int TransmitBurst = 256;                                 // frames at once, before others get their turn

    readonly VirtioNetOptions _options;
    readonly INetBackend? _backend;
    readonly byte[] _permanentMac;
    readonly int[] _queueSizes;
    readonly byte[] _frame = new byte[LargestFrame];               // not migrated: used inside Send alone
    readonly List<DescriptorChain> _merged = [];
    readonly VirtioNetFilter _filter = new();
    readonly VirtioNetControl _control;
    readonly Action _begin, _continueTransmit;
    readonly Action<Action> _post;
    Virtqueue? _receive, _transmit;                                // not migrated: null while stopped
    ulong _features;                                               // not migrated: the transport saves it
    bool _transmitPosted;                                          // not migrated: Start looks for what is left
    bool _linkUp = true;                                           // not migrated: the monitor's
    bool _announce;

    /// <param name="backend">Null for a card whose cable is not plugged.</param>
    /// <param name="post">Runs work on the main loop under the machine lock.</param>
    public VirtioNet(string name, INetBackend? backend, byte[] mac, VirtioNetOptions options, Action<Action> post)
        : base(name, 1, ConfigLength)
    {
        _options = options;
        _backend = backend;
        _permanentMac = mac;
        _post = post;
        _queueSizes = options.ControlQueue
            ? [options.ReceiveQueueSize, options.TransmitQueueSize, 64]
            : [options.ReceiveQueueSize, options.TransmitQueueSize];
        _control = new VirtioNetControl(this, _filter);
        (_begin, _continueTransmit) = (Begin, ContinueTransmit);
        Reset();
        backend?.Connect(this);
    }

    public override IReadOnlyList<int> QueueSizes => _queueSizes;

    public override ulong OfferedFeatures => Mac
        | (_options.MergeableBuffers ? MrgRxBuf : 0)
        | (_options.Status ? StatusFeature : 0)
        | (_options.ControlQueue ? CtrlVq | CtrlRx | CtrlRxExtra | CtrlVlan | CtrlMacAddr : 0)
        | (_options.ControlQueue && _options.Status ? GuestAnnounce : 0)
        | (_options.Mtu != 0 ? MtuFeature : 0);

    /// <summary>The address now; the driver may change it.</summary>
    public ReadOnlySpan<byte> CurrentMac => ConfigSpace.AsSpan(MacField, MacAddress.Length);

    public bool IsLinkUp => _linkUp && _backend != null;

    /// <summary>Also asks for the kick that will announce more buffers.</summary>
    public bool CanReceive => _receive is { } queue && (queue.HasAvailable || queue.EnableKicks());

    int HeaderLength => (_features & (VirtioFeatures.Version1 | MrgRxBuf)) != 0 ? FullHeader : ShortHeader;

    /// <summary>set_link of the monitor.</summary>
    public void SetLink(bool up)
    {
        if (_linkUp == up) return;
        _linkUp = up;
        Control.ConfigChanged();
        if (up) _backend?.AcceptInput();
    }

    /// <summary>Asks the guest to announce its addresses, as after a migration.</summary>
    public void RequestAnnounce()
    {
        if ((_features & GuestAnnounce) == 0 || _announce) return;
        _announce = true;
        Control.ConfigChanged();
    }

    public override void ReadConfig(int offset, Span<byte> data)
    {
        ushort status = (ushort)((IsLinkUp ? LinkUp : 0) | (_announce ? Announce : 0));
        BinaryPrimitives.WriteUInt16LittleEndian(ConfigSpace.AsSpan(StatusField), status);
        BinaryPrimitives.WriteUInt16LittleEndian(ConfigSpace.AsSpan(MtuField), _options.Mtu);
        base.ReadConfig(offset, data);
    }

    /// <summary>Legacy drivers set the address here; modern ones by the control queue (5.1.4.2).</summary>
    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if ((Control.Features & VirtioFeatures.Version1) != 0 || offset + data.Length > MacAddress.Length) return;
        data.CopyTo(ConfigSpace.AsSpan(offset));
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        _features = features;
        (_receive, _transmit) = (queues[Receive0], queues[Transmit0]);
        _filter.SetVlanFiltering((features & CtrlVlan) != 0);
        // not now: a state that is being loaded must not move
        _post(_begin);
    }

    public override void Stop() => (_receive, _transmit) = (null, null);

    public override void Kick(Virtqueue queue)
    {
        switch (queue.Index)
        {
            case Receive0: _backend?.AcceptInput(); break;
            case Transmit0: Transmit(queue); break;
            case ControlQueueIndex: _control.Process(queue); break;
        }
    }

    public override void Reset()
    {
        _permanentMac.CopyTo(ConfigSpace.AsSpan(MacField));
        _filter.Reset();
        (_features, _announce) = (0, false);
    }

    public override void Exchange(StateStream state)
    {
        state.Block("mac", ConfigSpace.AsSpan(MacField, MacAddress.Length));
        state.Field("announce", ref _announce);
        _filter.Exchange(state.Group("filter"));
    }

    public void Receive(ReadOnlySpan<byte> frame)
    {
        if (_receive is not { } queue || !_linkUp || frame.Length < EthernetHeader
            || !_filter.Passes(frame, CurrentMac)) return;
        if (!TakeBuffers(queue, HeaderLength + frame.Length)) return;
        Deliver(queue, frame);
        queue.Signal();
    }

    internal void SetMac(ReadOnlySpan<byte> mac) => mac.CopyTo(ConfigSpace.AsSpan(MacField));

    internal void AcknowledgeAnnounce() => _announce = false;

    /// <summary>Pops chains until the bytes fit: one, or with mergeable buffers several. None if they do not.</summary>
    bool TakeBuffers(Virtqueue queue, int needed)
    {
        long room = 0;
        bool mergeable = (_features & MrgRxBuf) != 0;
        while (room < needed && (_merged.Count == 0 || mergeable) && queue.TryPop(out DescriptorChain? chain))
        {
            _merged.Add(chain);
            if (_merged.Count == 1 && chain.WritableLength < HeaderLength)
            {
                PutBack(queue);
                Control.Fail("a receive buffer shorter than the header");
                return false;
            }
            room += chain.WritableLength;
        }
        if (room >= needed) return true;
        PutBack(queue);
        return false;
    }

    void PutBack(Virtqueue queue)
    {
        for (int i = _merged.Count - 1; i >= 0; i--) queue.Unpop(_merged[i]);
        _merged.Clear();
    }

    void Deliver(Virtqueue queue, ReadOnlySpan<byte> frame)
    {
        Span<byte> header = stackalloc byte[FullHeader];
        header.Clear();
        header = header[..HeaderLength];
        if (header.Length == FullHeader)
            BinaryPrimitives.WriteUInt16LittleEndian(header[NumBuffers..], (ushort)_merged.Count);
        for (int i = 0; i < _merged.Count; i++)
        {
            DescriptorChain chain = _merged[i];
            int at = 0;
            if (i == 0)
            {
                chain.Writable.Slice(0, header.Length).CopyFrom(header);
                at = header.Length;
            }
            int count = (int)Math.Min(chain.WritableLength - at, frame.Length);
            chain.Writable.Slice(at, count).CopyFrom(frame[..count]);
            frame = frame[count..];
            queue.Fill(chain, (uint)(at + count));
        }
        _merged.Clear();
        queue.Flush();
    }

    void Transmit(Virtqueue queue)
    {
        int budget = TransmitBurst;
        do
        {
            queue.DisableKicks();
            while (budget > 0 && queue.TryPop(out DescriptorChain? chain))
            {
                budget--;
                if (!Send(queue, chain)) return;
            }
        }
        while (budget > 0 && queue.EnableKicks());
        queue.Signal();
        if (budget > 0 || _transmitPosted) return;
        _transmitPosted = true;
        _post(_continueTransmit);
    }

    bool Send(Virtqueue queue, DescriptorChain chain)
    {
        int header = HeaderLength;
        if (chain.ReadableLength < header || chain.WritableLength != 0)
        {
            queue.Unpop(chain);
            Control.Fail("a frame to send without its header");
            return false;
        }
        long length = chain.ReadableLength - header;
        if (IsLinkUp && length is >= EthernetHeader and <= LargestFrame)
        {
            chain.Readable.Slice(header, length).CopyTo(_frame);
            _backend!.Send(_frame.AsSpan(0, (int)length));
        }
        queue.Push(chain, 0);
        return true;
    }

    void Begin()
    {
        if (_receive == null) return;
        _backend?.AcceptInput();
        if (_transmit is { HasAvailable: true } queue) Transmit(queue);
    }

    void ContinueTransmit()
    {
        _transmitPosted = false;
        if (_transmit is { } queue) Transmit(queue);
    }

    static VirtioNet FromProperties(string name, Properties values, DeviceSite site)
    {
        byte[] mac = values.Text("mac") is { } text ? MacAddress.Parse(text, values.Owner) : MacAddress.Default;
        INetBackend? backend = values.Text("netdev") is { } id ? site.Netdev(id) : null;
        return new VirtioNet(name, backend, mac,
            new VirtioNetOptions(QueueSize("rx_queue_size"), QueueSize("tx_queue_size"),
            values.Bool("mrg_rxbuf"), values.Bool("status"), values.Bool("ctrl_vq"), (ushort)values.Number("host_mtu")),
                site.Board.Post);

        int QueueSize(string property)
        {
            ulong size = values.Number(property);
            return size is >= 256 and <= 1024 && BitOperations.IsPow2(size) ? (int)size
                : throw new ConfigurationException($"{values.Owner}: {property}={size} must be a power of 2 between " +
                "256 and 1024");
        }
    }
}
