using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using static Qkvm.Hw.Net.Rtl8139Register;

namespace Qkvm.Hw.Net;

/// <summary>Sending: four slots in C mode, a ring of descriptors in C+ mode. Sections 6.2 and 9.1.</summary>
public sealed partial class Rtl8139
{
    const int MostDescriptors = 64, DescriptorSize = 16, Burst = 256, SmallestSegment = 48;
    const long Soon = 1;

    // Transmit descriptor of C+ mode, section 9.1.1
    const uint DescriptorOwn = 1u << 31, EndOfRing = 1 << 30, FirstSegment = 1 << 29, LastSegment = 1 << 28,
        LargeSend = 1 << 27, IpSum = 1 << 18, UdpSum = 1 << 17, TcpSum = 1 << 16, InsertTag = 1 << 17;
    const int SegmentShift = 16, SegmentMask = 0x7FF;

    bool IsPlusTransmit => (Get16(CPCR) & PlusTransmit) != 0;
    bool IsLoopedBack => (Get(TCR) >> 17 & 3) == 3;

    void Transmit()
    {
        while ((_registers[CR] & TransmitEnable) != 0 && !IsPlusTransmit)
        {
            uint status = Get(TSD + 4 * _slot);
            if ((status & Own) != 0) return;
            int length = (int)(status & SizeMask);
            Dma.Read(Get(TSAD + 4 * _slot), _gathered.AsSpan(0, length));
            Set(TSD + 4 * _slot, status | Own | Rtl8139Register.Sent);
            _slot = (_slot + 1) % Slots;
            SendFrame(default, length);
            Raise(TOK);
        }
    }

    void TransmitPlus()
    {
        if (!IsPlusTransmit || (_registers[CR] & TransmitEnable) == 0) return;
        for (int cost = 0; cost < Burst; cost++)
        {
            ulong at = Long(TNPDS) + (ulong)_plusTransmit * DescriptorSize;
            uint command = (uint)Dma.Read(at, 4);
            if ((command & DescriptorOwn) == 0)
            {
                if (cost > 0) Raise(TOK | TDU);
                return;
            }
            cost += Take(command, (uint)Dma.Read(at + 4, 4), Dma.Read(at + 8, 8));
            // what asked for sums and segments are now errors and collisions: none
            Dma.Write(at, 4, command & (EndOfRing | FirstSegment | LastSegment | 0xFFFF));
            _plusTransmit = Next(_plusTransmit, command);
        }
        Raise(TOK);
        if (!_more.IsArmed) _more.ArmIn(Soon);
    }

    /// <returns>Segments beyond the first that have been sent.</returns>
    int Take(uint command, uint tag, ulong address)
    {
        if ((command & FirstSegment) != 0) (_gatheredLength, _isTooLong, _firstCommand) = (0, false, command);
        int length = (int)(command & 0xFFFF);
        if (length > LargestFrame - FrameRoom - _gatheredLength) _isTooLong = true;
        else
        {
            Dma.Read(address, _gathered.AsSpan(_gatheredLength, length));
            _gatheredLength += length;
        }
        if ((command & LastSegment) == 0) return 0;
        int all = _gatheredLength, segments = 0;
        if (!_isTooLong && all >= EthernetHeader)
        {
            if ((tag & InsertTag) != 0) all = Tag(all, BinaryPrimitives.ReverseEndianness((ushort)tag));
            bool isLarge = (_firstCommand & LargeSend) != 0;
            NetHeader header = isLarge ? Segments(all) : Sums(all);
            if (header.SegmentSize > 0) segments = all / header.SegmentSize;
            SendFrame(header, all);
            _tally.Transmitted++;
        }
        (_gatheredLength, _isTooLong, _firstCommand) = (0, false, 0);
        return segments;
    }

    const int FrameRoom = 4;                                       // for a tag

    int Tag(int length, ushort tag)
    {
        const int At = FrameLayout.Addresses;
        const ushort Type = 0x8100;
        _gathered.AsSpan(At, length - At).CopyTo(_gathered.AsSpan(At + FrameRoom));
        BinaryPrimitives.WriteUInt16BigEndian(_gathered.AsSpan(At), Type);
        BinaryPrimitives.WriteUInt16BigEndian(_gathered.AsSpan(At + 2), tag);
        return length + FrameRoom;
    }

    /// <summary>The sums that a descriptor asks for: IP's is written here, others are left to be done.</summary>
    NetHeader Sums(int length)
    {
        if ((_firstCommand & (IpSum | UdpSum | TcpSum)) == 0) return default;
        Span<byte> frame = _gathered.AsSpan(0, length);
        FrameLayout layout = FrameLayout.Of(frame);
        if (layout.Network == 0) return default;
        if ((_firstCommand & IpSum) != 0 && !layout.IsIp6) WriteIpSum(frame, layout.Network);
        uint asked = layout.Protocol switch { FrameLayout.Tcp => TcpSum, FrameLayout.Udp => UdpSum, _ => 0 };
        int at = layout.Transport + layout.ChecksumOffset;
        if ((_firstCommand & asked) == 0 || layout.Transport == 0 || at + 2 > layout.End || layout.End != length)
            return default;
        BinaryPrimitives.WriteUInt16BigEndian(frame[at..], InternetChecksum.PseudoHeader(layout.IpAddresses(frame),
            layout.Protocol, layout.End - layout.Transport));
        return new NetHeader(NeedsChecksum: true, ChecksumStart: (ushort)layout.Transport,
            ChecksumOffset: (ushort)layout.ChecksumOffset);
    }

    /// <summary>TCP over IPv4 to be cut. Section 9.1.1, "Large Send".</summary>
    NetHeader Segments(int length)
    {
        const int TcpHeader = 20, TcpChecksum = 16, Flags = 13;
        const byte Reduced = 0x80;
        Span<byte> frame = _gathered.AsSpan(0, length);
        ushort size = (ushort)(_firstCommand >> SegmentShift & SegmentMask);
        int network = FrameLayout.NetworkStart(frame, out bool isIp6);
        int transport = network + (frame[network] & 15) * 4;
        if (network == 0 || isIp6 || frame[network + 9] != FrameLayout.Tcp || transport + TcpHeader > length
            || length - network > ushort.MaxValue || size < SmallestSegment) return default;
        int headers = transport + (frame[transport + 12] >> 4) * 4;
        BinaryPrimitives.WriteUInt16BigEndian(frame[(network + 2)..], (ushort)(length - network));
        WriteIpSum(frame, network);
        BinaryPrimitives.WriteUInt16BigEndian(frame[(transport + TcpChecksum)..], InternetChecksum.PseudoHeader(
            frame.Slice(network + 12, 8), FrameLayout.Tcp, length - transport));
        var header = new NetHeader(NeedsChecksum: true, HeaderLength: (ushort)headers,
            ChecksumStart: (ushort)transport, ChecksumOffset: TcpChecksum);
        if (length - headers <= size) return header;
        Segmentation kind = Segmentation.Tcp4;
        if ((frame[transport + Flags] & Reduced) != 0) kind |= Segmentation.Ecn;
        return header with { Segmentation = kind, SegmentSize = size };
    }

    static void WriteIpSum(Span<byte> frame, int network)
    {
        const int Checksum = 10;
        int length = Math.Min((frame[network] & 15) * 4, frame.Length - network);
        if (length < Checksum + 2) return;
        Span<byte> header = frame.Slice(network, length);
        BinaryPrimitives.WriteUInt16BigEndian(header[Checksum..], 0);
        BinaryPrimitives.WriteUInt16BigEndian(header[Checksum..],
            InternetChecksum.Complement(InternetChecksum.Sum(header)));
    }

    void SendFrame(in NetHeader header, int length)
    {
        if (length < EthernetHeader) return;
        if (length < ShortestFrame)
        {
            _gathered.AsSpan(length, ShortestFrame - length).Clear();
            length = ShortestFrame;
        }
        if (IsLoopedBack)
        {
            Accept(header, _gathered.AsSpan(0, length));
            return;
        }
        if (!IsLinkUp || _wire == null) return;
        _sending[0] = _gathered;
        _finisher.Send(_wire, _site.Backend!.Takes, header, new ScatterList(_sending, 0, 0, length));
    }

    /// <summary>DTCCR: the counters go to memory when bit 3 asks.</summary>
    void DumpTally(uint value)
    {
        const uint Command = 8;
        const ulong AddressMask = ~63UL;
        if ((value & Command) == 0)
        {
            Set(DTCCR, value);
            return;
        }
        Span<byte> counters = stackalloc byte[Tally.Length];
        counters.Clear();
        _tally.Write(counters);
        Dma.Write((value | (ulong)Get(DTCCR + 4) << 32) & AddressMask, counters);
        Set(DTCCR, value & ~Command);
    }
}
