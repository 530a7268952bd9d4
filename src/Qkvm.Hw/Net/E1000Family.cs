using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Host;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>Where a card stands.</summary>
/// <param name="Backend">Null for a card whose cable is not plugged.</param>
/// <param name="Loop">The main loop: the card is under the machine lock.</param>
public sealed record NetCardSite(NetBackend? Backend, byte[] Mac, IoLoop Loop, IVirtualClock Clock);

/// <summary>What the 82540EM and the 82574 share: registers, the PHY and its link, and the way to the
/// wire.</summary>
public abstract class E1000Family : PciDevice, INetPort, INetCard, IRegisterBank
{
    internal const int EthernetHeader = 14;
    const int LargestFrame = 65536 + 128, ShortestFrame = 60, FcsLength = 4, TagLength = 4;
    const int LargestPacket = 1518, LargestLongPacket = 16384;     // without FCS
    const long NegotiationTime = 500_000_000, Soon = 1;

    readonly NetCardSite _site;
    readonly INetQueue? _wire;
    readonly E1000Transmitter[] _transmitters;
    readonly bool _negotiates;
    readonly FrameFinisher _finisher = new();
    readonly Memory<byte>[] _sending = new Memory<byte>[1];        // not migrated: of one frame
    readonly byte[] _receiving = new byte[LargestFrame];           // not migrated: of one frame
    readonly CardTimer _negotiation, _more;
    int _awaited;                                                  // not migrated: loading looks for room anew
    bool _isConnected = true;                                      // not migrated: the monitor's

    internal E1000Family(PciIdentity identity, string name, bool isExpress, NetCardSite site, RegisterFile registers,
        PhyModel phy, int[] transmitRings, bool negotiates) : base(identity, name, isExpress)
    {
        (_site, Registers, Phy, _negotiates) = (site, registers, new E1000Phy(phy), negotiates);
        _transmitters = [.. transmitRings.Select(ring => new E1000Transmitter(this, ring))];
        _negotiation = new CardTimer(site.Clock, Negotiated);
        _more = new CardTimer(site.Clock, Transmit);
        _wire = site.Backend?.Open(0, this, site.Loop);
        _wire?.Accept(site.Backend!.Gives & (NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6
            | NetOffloads.TsoEcn | NetOffloads.Uso));
    }

    internal RegisterFile Registers { get; }
    internal E1000Phy Phy { get; }
    protected ReadOnlySpan<byte> Mac => _site.Mac;

    /// <summary>The address now, in the first place of the filter; the driver may change it.</summary>
    public byte[] CurrentMac
    {
        get
        {
            byte[] mac = new byte[8];
            BinaryPrimitives.WriteUInt32LittleEndian(mac, Registers[RAL]);
            BinaryPrimitives.WriteUInt32LittleEndian(mac.AsSpan(4), Registers[RAH]);
            return mac[..6];
        }
    }

    NetBackend? INetCard.Backend => _site.Backend;
    ReadOnlySpan<byte> INetCard.Mac => CurrentMac;

    public bool IsLinkUp => (Registers[STATUS] & LinkUp) != 0;

    bool HasCable => _isConnected && _site.Backend != null;

    /// <summary>set_link of the monitor.</summary>
    public void SetLink(bool up)
    {
        if (_isConnected == up) return;
        _isConnected = up;
        _negotiation.Cancel();
        if (up && HasCable && _negotiates) _negotiation.ArmIn(NegotiationTime);
        else ShowLink(HasCable);
    }

    public void Announce()
    {
        if (IsLinkUp && _wire != null) SelfAnnouncement.Send(_wire, CurrentMac);
    }

    /// <summary>The card is unplugged: the backend is another's. Under the machine lock.</summary>
    public void Close() => _wire?.Dispose();

    public abstract ulong Read(ulong offset, int size);
    public abstract void Write(ulong offset, int size, ulong value);

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (!IsReceiving || frame.Length is < EthernetHeader or > LargestFrame || !Dma.Enabled) return true;
        return Take(header, frame);
    }

    internal void SendFrame(in NetHeader header, Memory<byte> frame)
    {
        bool isLooped = (Registers[RCTL] & Loopback) == Loopback || Phy.IsLoopedBack;
        if (isLooped)
        {
            CountSent(header, frame.Span);
            if (IsReceiveEnabled && !Take(header, frame.Span)) Registers.Count(MPC);
            return;
        }
        if (!IsLinkUp || _wire == null) return;
        CountSent(header, frame.Span);
        _sending[0] = frame;
        _finisher.Send(_wire, _site.Backend!.Takes, header, new ScatterList(_sending, 0, 0, frame.Length));
    }

    /// <summary>Descriptors of a ring have been done.</summary>
    /// <param name="isDelayed">All that report it ask for a delay.</param>
    internal abstract void Sent(int ring, uint causes, bool isDelayed);

    /// <summary>Raises causes of interrupts.</summary>
    private protected abstract void Raise(uint causes);

    private protected abstract void UpdateInterrupt();

    /// <summary>The registers that act alike in both.</summary>
    /// <param name="allCauses">The interrupts that the card has.</param>
    private protected void WriteShared(int offset, uint word, uint allCauses)
    {
        switch (offset)
        {
            case MDIC: ExecuteMdic(word); break;
            case ICR:
                Registers[ICR] &= ~word;
                UpdateInterrupt();
                break;
            case ICS: Raise(word & allCauses); break;
            case IMS:
                Registers[IMS] |= word & allCauses;
                UpdateInterrupt();
                break;
            case IMC:
                Registers[IMS] &= ~word;
                UpdateInterrupt();
                break;
            case RDBAL + Tail or RDBAL + Head or RDBAL + Length or RCTL:
                Registers.GuestWrite(offset, word);
                RoomCame();
                break;
            default: Registers.GuestWrite(offset, word); break;
        }
    }

    /// <summary>Whether the frames find descriptors: all, or else false and why.</summary>
    /// <param name="frames">How many, each of up to so many bytes.</param>
    /// <param name="missing">Descriptors that the driver must give before they do; 0: they never will.</param>
    private protected abstract bool HasRoom(int frames, int longest, out int missing);

    /// <summary>Puts a frame into descriptors; false where there is no room after all.</summary>
    private protected abstract bool Deliver(Span<byte> frame, ushort? tag, in NetHeader header);

    private protected abstract bool IsReceiveEnabled { get; }

    /// <summary>Descriptors that the driver has given.</summary>
    private protected abstract int Available { get; }

    bool IsReceiving => IsReceiveEnabled && IsLinkUp;

    /// <summary>The driver has given descriptors.</summary>
    void RoomCame()
    {
        if (_awaited == 0 || Available < _awaited) return;
        _awaited = 0;
        _wire?.Resume();
    }

    private protected void Transmit()
    {
        bool isLeft = false;
        if ((Registers[TCTL] & TransmitEnable) == 0) return;
        foreach (E1000Transmitter transmitter in _transmitters) isLeft |= transmitter.Process();
        if (isLeft && !_more.IsArmed) _more.ArmIn(Soon);
    }

    /// <summary>CTRL.RST, and what a reset of the bus does beside.</summary>
    private protected void ResetMac()
    {
        uint link = Registers[STATUS] & LinkUp;
        Registers.Reset();
        Registers[STATUS] = Registers[STATUS] & ~LinkUp | link;
        Registers[RAL] = BinaryPrimitives.ReadUInt32LittleEndian(Mac);
        Registers[RAH] = BinaryPrimitives.ReadUInt16LittleEndian(Mac[4..]) | AddressValid;
        foreach (E1000Transmitter transmitter in _transmitters) transmitter.Reset();
        _more.Cancel();
    }

    private protected void ResetLink()
    {
        _negotiation.Cancel();
        Phy.Reset();
        Phy.SetLink(HasCable);
        Registers[STATUS] = Registers[STATUS] & ~LinkUp | (HasCable ? LinkUp : 0);
    }

    void ExecuteMdic(uint value)
    {
        const uint InterruptEnable = 1u << 29;
        Registers[MDIC] = Phy.Execute(value, out int written);
        if (written == E1000Phy.Control && (value & (E1000Phy.Restart | E1000Phy.SoftReset)) != 0) Renegotiate();
        if ((value & InterruptEnable) != 0) Raise(MDAC);
    }

    private protected void ExchangeFamily(StateStream state)
    {
        Registers.Exchange(state);
        Phy.Exchange(state);
        for (int i = 0; i < _transmitters.Length; i++) _transmitters[i].Exchange(state.Group("transmit", i));
        _negotiation.Exchange(state, "negotiation");
        _more.Exchange(state, "more");
        if (!state.IsLoading) return;
        _awaited = 0;
        _wire?.Resume();
    }

    void Renegotiate()
    {
        if (!HasCable || !_negotiates) return;
        ShowLink(false);
        _negotiation.ArmIn(NegotiationTime);
    }

    void Negotiated() => ShowLink(HasCable);

    void ShowLink(bool isUp)
    {
        Phy.SetLink(isUp);
        if (IsLinkUp == isUp) return;
        Registers[STATUS] = Registers[STATUS] & ~LinkUp | (isUp ? LinkUp : 0);
        Raise(LSC);
        if (isUp) _wire?.Resume();
    }

    /// <summary>False: the wire keeps the frame.</summary>
    bool Take(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        var cutter = new SegmentCutter(header, frame);
        int longest = cutter.Longest;
        uint control = Registers[RCTL];
        Span<byte> start = stackalloc byte[FrameLayout.Addresses + TagLength];
        start.Clear();
        frame[..Math.Min(start.Length, frame.Length)].CopyTo(start);
        if (header.LeftUndone == null || cutter.Count == 0 || !E1000Filter.Passes(Registers, start)) return true;
        if ((longest > LargestPacket && (control & (LongPackets | StoreBad)) == 0) || longest > LargestLongPacket)
        {
            Registers.Count(ROC);
            return true;
        }
        int room = Math.Max(longest, ShortestFrame);
        if (!HasRoom(cutter.Count, room, out int missing))
        {
            Registers.Count(RNBC);
            if (missing > 0)
            {
                _awaited = missing;
                return false;
            }
        }
        bool isTagged = (Registers[CTRL] & VlanMode) != 0 && E1000Filter.IsTagged(Registers, start);
        NetHeader known = header;
        while (cutter.TryNext(_receiving, out int length))
        {
            CountReceived(start[0], start[..6].IndexOfAnyExcept((byte)0xFF) < 0, length);
            if (!DeliverOne(length, isTagged, known))
            {
                Registers.Count(MPC);
                Raise(RXO);
                break;
            }
        }
        return true;
    }

    bool DeliverOne(int length, bool isTagged, in NetHeader header)
    {
        Span<byte> frame = _receiving.AsSpan(0, length);
        ushort? tag = null;
        if (isTagged && length >= EthernetHeader + TagLength)
        {
            tag = BinaryPrimitives.ReadUInt16BigEndian(frame[EthernetHeader..]);
            frame[..FrameLayout.Addresses].CopyTo(frame[TagLength..]);
            frame = frame[TagLength..];
        }
        if (frame.Length < ShortestFrame)
        {
            int at = length - frame.Length;
            _receiving.AsSpan(length, at + ShortestFrame - length).Clear();
            frame = _receiving.AsSpan(at, ShortestFrame);
        }
        return Deliver(frame, tag, header);
    }

    void CountReceived(byte first, bool isBroadcast, int length)
    {
        uint octets = (uint)Math.Max(length, ShortestFrame) + FcsLength;
        Registers.Count(TPR);
        Registers.Count(GPRC);
        Registers.Count(PRC64 + SizeClass(octets));
        Registers.CountLong(GORCL, octets);
        Registers.CountLong(TORL, octets);
        if (isBroadcast) Registers.Count(BPRC);
        else if ((first & 1) != 0) Registers.Count(MPRC);
    }

    void CountSent(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        uint count = 1, octets = (uint)frame.Length + FcsLength;
        if (header.Segmentation != Segmentation.None)
        {
            uint payload = (uint)Math.Max(1, frame.Length - header.HeaderLength);
            count = (payload + header.SegmentSize - 1) / header.SegmentSize;
            octets += (count - 1) * (header.HeaderLength + (uint)FcsLength);
            Registers.Count(TSCTC);
        }
        Registers.Count(TPT, count);
        Registers.Count(GPTC, count);
        Registers.Count(PTC64 + SizeClass(octets / count), count);
        Registers.CountLong(GOTCL, octets);
        Registers.CountLong(TOTL, octets);
        if ((frame[0] & 1) == 0) return;
        Registers.Count(frame[..6].IndexOfAnyExcept((byte)0xFF) < 0 ? BPTC : MPTC, count);
    }

    /// <summary>From the counter of 64 bytes on.</summary>
    static int SizeClass(uint octets) =>
        4 * octets switch { <= 64 => 0, <= 127 => 1, <= 255 => 2, <= 511 => 3, <= 1023 => 4, _ => 5 };
}
