using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Net;

namespace Qkvm.Hw.Usb;

/// <summary>usb-net: a network card at full speed, in one configuration by the standard's Ethernet model, in the other
/// as <see cref="UsbRndis"/>. Spec: USB Class Definitions for Communications Devices 1.2, with Ethernet Control Model
/// 1.2; names are theirs.</summary>
/// <remarks>Multicast frames pass or not, all of them. Deviations: no statistics, no wake-up by patterns.</remarks>
public sealed partial class UsbNet : UsbDevice, INetPort, INetCard
{
    const byte CdcConfiguration = 1, RndisConfiguration = 2;
    const byte StatusIn = UsbEndpoint.In | 1, DataIn = UsbEndpoint.In | 2, DataOut = 2;
    const int MaxPacket = 64, LargestFrame = UsbRndis.LargestFrame, EthernetHeader = 14, MostOut = 4096;

    // bmRequestType << 8 | bRequest
    const ushort SendEncapsulatedCommand = 0x2100, GetEncapsulatedResponse = 0xA101, SetPacketFilter = 0x2143;
    const byte NetworkConnection = 0, NotificationType = 0xA1, ResponseAvailable = 1;
    const int NotificationLength = 8;

    readonly NetCardSite _site;
    readonly INetQueue? _wire;
    readonly UsbRndis _rndis;
    readonly byte[] _in = new byte[UsbRndis.PacketHeader + LargestFrame], _out = new byte[MostOut];
    readonly Memory<byte>[] _sending = new Memory<byte>[1];        // not migrated: of one frame
    int _inLength, _inAt, _outLength;
    bool _isInFull, _isOutTooLong;                                 // _in has a transfer, perhaps of no bytes any more
    bool _tellsLink;                                               // the host has not heard of the cable yet
    uint _filter = (uint)UsbNetFilter.All;                         // of the Ethernet model
    bool _isConnected = true;                                      // not migrated: the monitor's

    public UsbNet(Properties properties, NetCardSite site) : base(Model.Name, Describe(site.Mac), properties)
    {
        _site = site;
        _rndis = new UsbRndis(site.Mac, () => IsLinkUp);
        _wire = site.Backend?.Open(0, this, site.Loop);
    }

    public NetBackend? Backend => _site.Backend;
    public ReadOnlySpan<byte> Mac => _site.Mac;

    bool IsLinkUp => _isConnected && _site.Backend != null;
    bool IsRndis => Configuration?.Value == RndisConfiguration;
    bool IsListening => FindEndpoint(DataIn) != null && (!IsRndis || _rndis.Filter != UsbNetFilter.None);

    public void SetLink(bool up)
    {
        if (_isConnected == up) return;
        _isConnected = up;
        TellLink();
        if (up) _wire?.Resume();
    }

    public void Announce()
    {
        if (IsLinkUp && _wire != null) SelfAnnouncement.Send(_wire, Mac);
    }

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (!IsLinkUp || !IsListening || !IsFrame(frame.Length) || !Wants(frame)) return true;
        if (_isInFull) return false;
        int head = IsRndis ? UsbRndis.PacketHeader : 0;
        if (head > 0) UsbRndis.WritePacketHeader(_in, frame.Length);
        frame.CopyTo(_in.AsSpan(head));
        (_inAt, _inLength, _isInFull) = (0, head + frame.Length, true);
        _rndis.CountReceived();
        Wake(DataIn);
        return true;
    }

    protected override void ResetDevice()
    {
        Clear();
        _rndis.Reset();
        _filter = (uint)UsbNetFilter.All;
    }

    protected override void OnConfigured()
    {
        Clear();
        TellLink();
        _wire?.Resume();
    }

    protected override UsbStatus Transfer(UsbPacket packet) => packet.EndpointAddress switch
    {
        StatusIn => Notify(packet),
        DataIn => Send(packet),
        _ => Take(packet),
    };

    protected override int AnswerRequest(in UsbSetup setup, Span<byte> answer) =>
        setup.Code == GetEncapsulatedResponse && IsRndis ? _rndis.Answer(answer) : Stall;

    protected override bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data)
    {
        switch (setup.Code)
        {
            case SendEncapsulatedCommand when IsRndis:
                if (!_rndis.Obey(data)) return false;
                if (_rndis.HasResponse) Wake(StatusIn);
                _wire?.Resume();
                return true;
            case SetPacketFilter:
                _filter = (uint)FilterOf(setup.Value);
                return true;
            default: return false;
        }
    }

    protected override void ExchangeDevice(StateStream state)
    {
        byte[] incoming = state.IsLoading ? [] : _in[..(_isInFull ? _inLength : 0)];
        byte[] outgoing = state.IsLoading ? [] : _out[.._outLength];
        state.Field("filter", ref _filter);
        state.Field("tells-link", ref _tellsLink);
        state.Blob("in", ref incoming, _in.Length);
        state.Field("in-at", ref _inAt, 0, _in.Length);
        state.Field("in-full", ref _isInFull);
        state.Blob("out", ref outgoing, MostOut);
        state.Field("out-too-long", ref _isOutTooLong);
        _rndis.Exchange(state.Group("rndis"));
        if (_inAt > incoming.Length) throw state.Refuse("in-at", $"{_inAt} lies beyond {incoming.Length}");
        if (!state.IsLoading) return;
        incoming.CopyTo(_in, 0);
        outgoing.CopyTo(_out, 0);
        (_inLength, _outLength) = (incoming.Length, outgoing.Length);
        _wire?.Resume();
    }

    void Close() => _wire?.Dispose();

    void Clear()
    {
        (_inLength, _inAt, _isInFull, _outLength, _isOutTooLong, _tellsLink) = (0, 0, false, 0, false, false);
        Array.Clear(_in);
        Array.Clear(_out);
    }

    void TellLink()
    {
        if (IsRndis) _rndis.Indicate(IsLinkUp);
        else _tellsLink = FindEndpoint(DataIn) != null;
        if (_tellsLink || _rndis.HasResponse) Wake(StatusIn);
    }

    /// <summary>CDC 1.2, section 6.3.1, and RNDIS's word for an answer that waits.</summary>
    UsbStatus Notify(UsbPacket packet)
    {
        Span<byte> notification = stackalloc byte[NotificationLength];
        notification.Clear();
        if (_rndis.HasResponse) notification[0] = ResponseAvailable;
        else if (!_tellsLink) return UsbStatus.Nak;
        else
        {
            (notification[0], notification[1], notification[2]) =
                (NotificationType, NetworkConnection, IsLinkUp ? (byte)1 : (byte)0);
            _tellsLink = false;
        }
        return packet.Put(notification) == NotificationLength ? UsbStatus.Success : UsbStatus.Babble;
    }

    /// <summary>To the host; what ends with a full packet is followed by an empty one.</summary>
    UsbStatus Send(UsbPacket packet)
    {
        if (!_isInFull) return UsbStatus.Nak;
        _inAt += packet.Put(_in.AsSpan(_inAt, _inLength - _inAt));
        if (_inAt == _inLength && (packet.Room > 0 || _inLength % MaxPacket != 0 || packet.Length == 0))
        {
            (_isInFull, _inAt, _inLength) = (false, 0, 0);
            _wire?.Resume();
        }
        return UsbStatus.Success;
    }

    /// <summary>From the host: a short packet ends a transfer, which is one frame, or a message.</summary>
    UsbStatus Take(UsbPacket packet)
    {
        _isOutTooLong |= packet.Length > MostOut - _outLength;
        if (_isOutTooLong) packet.Advance(packet.Length);
        else _outLength += packet.Take(_out.AsSpan(_outLength));
        bool isEnd = packet.Length % MaxPacket != 0 || packet.Length == 0;
        if (!_isOutTooLong && IsRndis) TakeMessages();
        else if (!_isOutTooLong && isEnd) SendFrame(.._outLength);
        if (isEnd) (_outLength, _isOutTooLong) = (0, false);
        return UsbStatus.Success;
    }

    void TakeMessages()
    {
        int at = 0;
        while (UsbRndis.LengthOf(_out.AsSpan(at, _outLength - at)) is > 0 and var length && length <= _outLength - at)
        {
            (int offset, int count) = UsbRndis.FrameOf(_out.AsSpan(at, (int)length));
            SendFrame((at + offset)..(at + offset + count));
            at += (int)length;
        }
        _outLength -= at;
        _out.AsSpan(at, _outLength).CopyTo(_out);
    }

    void SendFrame(Range frame)
    {
        Memory<byte> bytes = _out.AsMemory(frame);
        if (!IsFrame(bytes.Length) || !IsLinkUp || _wire == null) return;
        _sending[0] = bytes;
        _rndis.CountSent();
        _wire.Send(default, new ScatterList(_sending, 0, 0, bytes.Length));
    }

    static bool IsFrame(int length) => length is >= EthernetHeader and <= LargestFrame;

    bool Wants(ReadOnlySpan<byte> frame)
    {
        UsbNetFilter filter = IsRndis ? _rndis.Filter : (UsbNetFilter)_filter;
        if ((filter & UsbNetFilter.Promiscuous) != 0) return true;
        ReadOnlySpan<byte> target = frame[..6];
        UsbNetFilter kind = target.IndexOfAnyExcept((byte)0xFF) < 0 ? UsbNetFilter.Broadcast
            : (target[0] & 1) != 0 ? UsbNetFilter.Multicast | UsbNetFilter.AllMulticast
            : target.SequenceEqual(Mac) ? UsbNetFilter.Directed : UsbNetFilter.None;
        return (filter & kind) != 0;
    }

    /// <summary>ECM 1.2, table 8.</summary>
    static UsbNetFilter FilterOf(ushort bits) =>
        ((bits & 1) != 0 ? UsbNetFilter.Promiscuous : 0) | ((bits & 2) != 0 ? UsbNetFilter.AllMulticast : 0)
        | ((bits & 4) != 0 ? UsbNetFilter.Directed : 0) | ((bits & 8) != 0 ? UsbNetFilter.Broadcast : 0)
        | ((bits & 16) != 0 ? UsbNetFilter.Multicast : 0);
}
