using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>A transmit queue: gathers frames from descriptors, and makes of what the driver leaves to the card the
/// header of a frame. Intel 317453, sections 3.3 to 3.5.</summary>
/// <remarks>Deviations: frames without IFCS are sent as others; report packet sent is report status.</remarks>
sealed class E1000Transmitter(E1000Family card, int ring)
{
    const int Burst = 256;                                         // descriptors at once
    const int LargestFrame = 65536 + 128, Headroom = 4;            // before it a tag has room
    const int SmallestSegment = 48;                                // no driver's is smaller: TCP's least is 536
    const int ShortestFrame = 60, TagAt = 12, TagLength = 4;

    // CMD, section 3.3.3.1
    const byte EndOfPacket = 0x01, InsertChecksum = 0x04, ReportStatus = 0x08 | 0x10, Extension = 0x20,
        VlanPacket = 0x40, Delay = 0x80;
    const byte Segment = 0x04;                                     // TSE of DCMD
    const byte DescriptorDone = 1;
    // TUCMD, section 3.3.6.2
    const byte IsTcp = 1, IsIp4 = 2;
    // POPTS, section 3.3.7.2
    const byte IpChecksum = 1, TransportChecksum = 2;

    readonly byte[] _buffer = new byte[LargestFrame + Headroom];   // not migrated: beyond _length; what is within is
    int _length;                                                   // gathered, of a frame without its end yet
    bool _isTooLong;
    byte _options;                                                 // POPTS of the frame's first descriptor
    bool _isSegmented;
    ulong _offsets, _segments;                                     // the last context of plain frames
    ulong _largeOffsets, _largeSegments;                           // of frames to be cut

    /// <summary>Sends what the driver has given.</summary>
    /// <returns>Whether more is left than is done at once.</returns>
    public bool Process()
    {
        var descriptors = new E1000Ring(card.Registers, ring);
        int available = descriptors.Available, done = Math.Min(available, Burst);
        if (done == 0) return false;
        uint causes = 0;
        bool isDelayed = true;
        int taken = 0;
        for (int cost = 0; taken < done && cost < Burst; taken++, cost++)
        {
            ulong address = descriptors.Address, first = card.Dma.Read(address, 8);
            ulong second = card.Dma.Read(address + 8, 8);
            byte command = (byte)(second >> 24);
            cost += Take(first, second, command);
            if ((command & ReportStatus) != 0)
            {
                card.Dma.Write(address + 12, 1, (second >> 32 | DescriptorDone) & 0xFF);
                causes |= TXDW;
                isDelayed &= (command & Delay) != 0;
            }
            descriptors.Advance();
        }
        if (taken == available) causes |= TXQE;
        card.Sent(ring, causes, isDelayed);
        return taken < available;
    }

    public void Reset()
    {
        (_length, _isTooLong, _options, _isSegmented) = (0, false, 0, false);
        (_offsets, _segments, _largeOffsets, _largeSegments) = (0, 0, 0, 0);
    }

    public void Exchange(StateStream state)
    {
        byte[] gathered = _buffer.AsSpan(Headroom, _length).ToArray();
        state.Blob("gathered", ref gathered, LargestFrame);
        state.Field("too-long", ref _isTooLong);
        state.Field("options", ref _options);
        state.Field("segmented", ref _isSegmented);
        state.Field("offsets", ref _offsets);
        state.Field("segments", ref _segments);
        state.Field("large-offsets", ref _largeOffsets);
        state.Field("large-segments", ref _largeSegments);
        if (!state.IsLoading) return;
        _length = gathered.Length;
        gathered.CopyTo(_buffer, Headroom);
    }

    /// <returns>Segments beyond the first that have been sent.</returns>
    int Take(ulong first, ulong second, byte command)
    {
        bool isExtended = (command & Extension) != 0;
        if (isExtended && (second >> 20 & 15) == 0)
        {
            if ((command & Segment) != 0) (_largeOffsets, _largeSegments) = (first, second);
            else (_offsets, _segments) = (first, second);
            return 0;
        }
        if (_length == 0 && !_isTooLong)
        {
            _options = isExtended ? (byte)(second >> 40) : (byte)0;
            _isSegmented = isExtended && (command & Segment) != 0;
        }
        int count = (int)(second & (isExtended ? 0xF_FFFFu : 0xFFFF));
        if (count > LargestFrame - _length) _isTooLong = true;
        else
        {
            card.Dma.Read(first, _buffer.AsSpan(Headroom + _length, count));
            _length += count;
        }
        if ((command & EndOfPacket) == 0) return 0;
        int segments = _isSegmented ? _length / Math.Max(SmallestSegment, (int)(_largeSegments >> 48)) : 0;
        if (!_isTooLong && _length >= E1000Family.EthernetHeader) Finish(second, command, isExtended);
        (_length, _isTooLong) = (0, false);
        return segments;
    }

    void Finish(ulong second, byte command, bool isExtended)
    {
        int start = Headroom;
        if ((command & VlanPacket) != 0 && (card.Registers[CTRL] & VlanMode) != 0)
        {
            start -= TagLength;
            _buffer.AsSpan(Headroom, TagAt).CopyTo(_buffer.AsSpan(start));
            BinaryPrimitives.WriteUInt16BigEndian(_buffer.AsSpan(start + TagAt), (ushort)card.Registers[VET]);
            BinaryPrimitives.WriteUInt16BigEndian(_buffer.AsSpan(start + TagAt + 2), (ushort)(second >> 48));
        }
        int moved = Headroom - start;
        Span<byte> frame = _buffer.AsSpan(start, _length + moved);
        NetHeader header = default;
        if (_isSegmented)
        {
            if (!TrySegment(frame, moved, out header)) return;
        }
        else if (isExtended)
        {
            if ((_options & IpChecksum) != 0)
                Complete(frame, moved + (byte)_offsets, moved + (byte)(_offsets >> 8), moved, (ushort)(_offsets >> 16));
            if ((_options & TransportChecksum) != 0)
                header = Leave(frame, moved + (byte)(_offsets >> 32), moved + (byte)(_offsets >> 40), moved,
                    (ushort)(_offsets >> 48));
        }
        else if ((command & InsertChecksum) != 0)
            header = Leave(frame, moved + (byte)(second >> 40), moved + (byte)(second >> 16), moved, 0);
        if (frame.Length < ShortestFrame && (card.Registers[TCTL] & PadShort) != 0)
        {
            int padded = ShortestFrame;
            _buffer.AsSpan(start + frame.Length, padded - frame.Length).Clear();
            frame = _buffer.AsSpan(start, padded);
        }
        card.SendFrame(header, _buffer.AsMemory(start, frame.Length));
    }

    /// <summary>A checksum that the backend may compute as well.</summary>
    static NetHeader Leave(Span<byte> frame, int start, int at, int moved, int end)
    {
        bool toTheEnd = end == 0 || end + moved >= frame.Length - 1;
        if (toTheEnd && at >= start && at + 2 <= frame.Length)
            return new NetHeader(NeedsChecksum: true, ChecksumStart: (ushort)start,
                ChecksumOffset: (ushort)(at - start));
        Complete(frame, start, at, moved, end);
        return default;
    }

    /// <summary>The sum of the bytes from start to end, both inclusive, complemented. Section 3.5.</summary>
    /// <param name="end">In the frame without its new tag; 0: the frame's.</param>
    static void Complete(Span<byte> frame, int start, int at, int moved, int end)
    {
        int past = end == 0 ? frame.Length : Math.Min(frame.Length, end + moved + 1);
        if (start >= past || at + 2 > frame.Length) return;
        ushort sum = InternetChecksum.Sum(frame[start..past]);
        BinaryPrimitives.WriteUInt16BigEndian(frame[at..], InternetChecksum.Complement(sum));
    }

    /// <summary>A frame to be cut, with the lengths and sums that the driver leaves out. Section 3.5.</summary>
    bool TrySegment(Span<byte> frame, int moved, out NetHeader header)
    {
        const int Reduced = 0x80, Flags = 13;                      // CWR of TCP
        byte kind = (byte)(_largeSegments >> 24);
        int transport = moved + (byte)(_largeOffsets >> 32), headers = moved + (byte)(_largeSegments >> 40);
        ushort size = (ushort)(_largeSegments >> 48);
        int network = FrameLayout.NetworkStart(frame, out bool isIp6);
        bool isTcp = (kind & IsTcp) != 0;
        int least = transport + (isTcp ? 20 : 8), ipHeader = isIp6 ? 40 : 20;
        header = default;
        if (network == 0 || size < SmallestSegment || transport < network + ipHeader || headers < least
            || headers > frame.Length || isIp6 == ((kind & IsIp4) != 0)) return false;
        byte protocol = isTcp ? FrameLayout.Tcp : FrameLayout.Udp;
        int checksum = isTcp ? 16 : 6, all = frame.Length - network;
        Span<byte> ip = frame[network..], packet = frame[transport..];
        ushort total = (ushort)Math.Min(all, ushort.MaxValue);     // a longer one is cut by us, which writes it anew
        if (isIp6) BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)Math.Min(all - ipHeader, ushort.MaxValue));
        else
        {
            BinaryPrimitives.WriteUInt16BigEndian(ip[2..], total);
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], 0);
            ushort sum = InternetChecksum.Sum(ip[..Math.Min(ip.Length, (ip[0] & 15) * 4)]);
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], InternetChecksum.Complement(sum));
        }
        ReadOnlySpan<byte> addresses = isIp6 ? ip.Slice(8, 32) : ip.Slice(12, 8);
        BinaryPrimitives.WriteUInt16BigEndian(packet[checksum..],
            InternetChecksum.PseudoHeader(addresses, protocol, packet.Length));
        if (!isTcp)
            BinaryPrimitives.WriteUInt16BigEndian(packet[4..], (ushort)Math.Min(packet.Length, ushort.MaxValue));
        header = new NetHeader(NeedsChecksum: true, HeaderLength: (ushort)headers, ChecksumStart: (ushort)transport,
            ChecksumOffset: (ushort)checksum);
        if (frame.Length - headers <= size) return true;
        Segmentation segmentation = !isTcp ? Segmentation.Udp : isIp6 ? Segmentation.Tcp6 : Segmentation.Tcp4;
        if (isTcp && (packet[Flags] & Reduced) != 0) segmentation |= Segmentation.Ecn;
        header = header with { Segmentation = segmentation, SegmentSize = size };
        return true;
    }
}
