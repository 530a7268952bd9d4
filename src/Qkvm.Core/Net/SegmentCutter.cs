using System.Buffers.Binary;

namespace Qkvm.Core.Net;

/// <summary>Cuts a frame into the segments that its header asks for, each with headers and checksums of its own; a
/// frame that is not to be cut comes as it is, with its checksum. RFC 9293; RFC 791; Virtio 1.2, section
/// 5.1.6.2.</summary>
public ref struct SegmentCutter
{
    const byte Finish = 0x01, Push = 0x08, Reduced = 0x80;         // of TCP: FIN, PSH, CWR
    const int FlagsOffset = 13, SequenceOffset = 4, DataOffset = 12, TcpHeader = 20, UdpHeader = 8, Ip6Header = 40;

    readonly NetHeader _header;
    readonly ReadOnlySpan<byte> _frame;
    readonly int _network, _transport, _payload;                   // offsets; _payload is also the headers' length
    readonly bool _isIp6;
    readonly byte _protocol;
    int _done, _count;

    public SegmentCutter(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        _header = header;
        _frame = frame;
        Segmentation kind = header.Segmentation & ~Segmentation.Ecn;
        if (kind == Segmentation.None)
        {
            Count = header.NeedsChecksum && header.ChecksumStart + header.ChecksumOffset + 2 > frame.Length ? 0 : 1;
            return;
        }
        _protocol = kind == Segmentation.Udp ? FrameLayout.Udp : FrameLayout.Tcp;
        _network = FrameLayout.NetworkStart(frame, out _isIp6);    // its lengths may still be missing
        _transport = header.ChecksumStart;
        int least = _protocol == FrameLayout.Tcp ? TcpHeader : UdpHeader;
        int ipHeader = _network == 0 ? 0 : _isIp6 ? Ip6Header : (frame[_network] & 15) * 4;
        if (_network == 0 || header.SegmentSize == 0 || _transport < _network + ipHeader
            || _transport + least > frame.Length
            || kind == (_isIp6 ? Segmentation.Tcp4 : Segmentation.Tcp6)) return;
        _payload = _transport
            + (_protocol == FrameLayout.Tcp ? (frame[_transport + DataOffset] >> 4) * 4 : UdpHeader);
        if (_payload < _transport + least || _payload > frame.Length) return;
        _done = _payload;
        Count = Math.Max(1, (frame.Length - _payload + header.SegmentSize - 1) / header.SegmentSize);
    }

    /// <summary>How many segments there are in all; 0: the header makes no sense for this frame.</summary>
    public int Count { get; }

    /// <summary>Bytes of the longest segment.</summary>
    public readonly int Longest =>
        _payload == 0 ? _frame.Length : Math.Min(_frame.Length, _payload + _header.SegmentSize);

    /// <param name="target">At least <see cref="Longest"/> bytes.</param>
    public bool TryNext(Span<byte> target, out int length)
    {
        length = 0;
        if (_count >= Count) return false;
        _count++;
        if (_payload == 0)
        {
            length = _frame.Length;
            _frame.CopyTo(target);
            if (_header.NeedsChecksum) FrameFinisher.TryCompleteChecksum(_header, target[..length]);
            return true;
        }
        int size = Math.Min(_header.SegmentSize, _frame.Length - _done);
        length = _payload + size;
        _frame[.._payload].CopyTo(target);
        _frame.Slice(_done, size).CopyTo(target[_payload..]);
        Correct(target[..length]);
        _done += size;
        return true;
    }

    readonly void Correct(Span<byte> segment)
    {
        Span<byte> ip = segment[_network..], packet = segment[_transport..];
        if (_isIp6) BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)(ip.Length - Ip6Header));
        else
        {
            BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)ip.Length);
            int id = BinaryPrimitives.ReadUInt16BigEndian(ip[4..]) + _count - 1;
            BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)id);
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], 0);
            ushort sum = InternetChecksum.Sum(ip[..((ip[0] & 15) * 4)]);
            BinaryPrimitives.WriteUInt16BigEndian(ip[10..], InternetChecksum.Complement(sum));
        }
        int checksum;
        if (_protocol == FrameLayout.Tcp)
        {
            checksum = 16;
            uint sequence = BinaryPrimitives.ReadUInt32BigEndian(packet[SequenceOffset..]) + (uint)(_done - _payload);
            BinaryPrimitives.WriteUInt32BigEndian(packet[SequenceOffset..], sequence);
            if (_count < Count) packet[FlagsOffset] &= unchecked((byte)~(Finish | Push));
            if (_count > 1) packet[FlagsOffset] &= unchecked((byte)~Reduced);
        }
        else
        {
            checksum = 6;
            BinaryPrimitives.WriteUInt16BigEndian(packet[4..], (ushort)packet.Length);
        }
        BinaryPrimitives.WriteUInt16BigEndian(packet[checksum..], 0);
        ReadOnlySpan<byte> addresses = _isIp6 ? ip.Slice(8, 32) : ip.Slice(12, 8);
        ushort pseudo = InternetChecksum.PseudoHeader(addresses, _protocol, packet.Length);
        BinaryPrimitives.WriteUInt16BigEndian(packet[checksum..],
            InternetChecksum.Complement(InternetChecksum.Sum(packet, pseudo)));
    }
}
