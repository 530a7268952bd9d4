using System.Buffers.Binary;
using Qkvm.Core.Net;
using static Qkvm.Hw.Net.Rtl8139Register;

namespace Qkvm.Hw.Net;

/// <summary>Receiving: one ring of bytes in C mode, a ring of descriptors in C+ mode. Sections 6.1 and 9.2.</summary>
public sealed partial class Rtl8139
{
    const int LargestPacket = 4096 + EthernetHeader, PacketHeader = 4, ReadAhead = 16;

    // Status of a packet, section 6.1
    const ushort StatusOk = 1, StatusBroadcast = 0x2000, StatusMatch = 0x4000, StatusMulticast = 0x8000;

    // Receive descriptor of C+ mode, section 9.2.1
    const uint PlusMulticast = 1 << 27, PlusMatch = 1 << 26, PlusBroadcast = 1 << 25, ProtocolTcp = 1 << 16,
        ProtocolUdp = 2 << 16, ProtocolIp = 3 << 16, IpFailed = 1 << 15, UdpFailed = 1 << 14, TcpFailed = 1 << 13,
        TagAvailable = 1 << 16, BufferSize = 0x1FFF;

    bool IsPlusReceive => (Get16(CPCR) & PlusReceive) != 0;

    int RingLength => 8192 << (int)(Get(RCR) >> BufferLength & 3);

    int Used => (Get16(CBR) - Get16(CAPR) - ReadAhead) & (RingLength - 1);

    bool IsBufferEmpty => Used == 0;

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (!IsLinkUp || !Dma.Enabled) return true;
        return Accept(header, frame);
    }

    /// <summary>False: the wire keeps the frame.</summary>
    bool Accept(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if ((_registers[CR] & ReceiveEnable) == 0 || header.LeftUndone == null
            || frame.Length is < EthernetHeader or > LargestFrame) return true;
        var cutter = new SegmentCutter(header, frame);
        if (cutter.Count == 0 || cutter.Longest > LargestPacket || Filter(frame) is not { } status) return true;
        if (!HasRoom(cutter.Count, Math.Max(cutter.Longest, ShortestFrame), out bool isLater))
        {
            Raise(RXOVW);
            if (isLater)
            {
                _isWaiting = true;
                return false;
            }
        }
        while (cutter.TryNext(_receiving, out int length))
        {
            if (length < ShortestFrame) _receiving.AsSpan(length, ShortestFrame - length).Clear();
            if (!Deliver(_receiving.AsSpan(0, Math.Max(length, ShortestFrame)), status, header))
            {
                Set(MPC, Math.Min(Get(MPC) + 1, 0xFF_FFFF));
                _tally.Missed++;
                break;
            }
            _tally.Received++;
            if (status == StatusBroadcast) _tally.Broadcasts++;
            if (status == StatusMulticast) _tally.Multicasts++;
        }
        Raise(ROK);
        return true;
    }

    /// <summary>There may be room again.</summary>
    void Resume()
    {
        if (!_isWaiting) return;
        _isWaiting = false;
        _wire?.Resume();
    }

    /// <summary>Which of the filters it passes, or null.</summary>
    ushort? Filter(ReadOnlySpan<byte> frame)
    {
        uint control = Get(RCR);
        ReadOnlySpan<byte> target = frame[..6];
        if (target.IndexOfAnyExcept((byte)0xFF) < 0) return Passing(AcceptBroadcast, StatusBroadcast);
        if ((target[0] & 1) != 0)
        {
            int hash = (int)(Hash(target) >> 26);
            bool isListed = (_registers[MAR + hash / 8] & 1 << (hash % 8)) != 0;
            return isListed ? Passing(AcceptMulticast, StatusMulticast) : Passing(AcceptAll, StatusMulticast);
        }
        return target.SequenceEqual(_registers.AsSpan(IDR, 6)) ? Passing(AcceptMatch, StatusMatch)
            : Passing(AcceptAll, 0);

        ushort? Passing(uint allowing, ushort status) => (control & (allowing | AcceptAll)) != 0 ? status : null;
    }

    /// <summary>Ethernet's CRC, the first bit in the highest place. IEEE 802.3, clause 3.2.9.</summary>
    static uint Hash(ReadOnlySpan<byte> address)
    {
        const uint Polynomial = 0x04C1_1DB7;
        uint crc = uint.MaxValue;
        foreach (byte part in address)
            for (int bit = 0; bit < 8; bit++)
            {
                bool carries = (crc >> 31 ^ (uint)(part >> bit & 1)) != 0;
                crc = crc << 1 ^ (carries ? Polynomial : 0);
            }
        return crc;
    }

    /// <param name="isLater">Else they will never fit.</param>
    bool HasRoom(int frames, int longest, out bool isLater)
    {
        if (!IsPlusReceive)
        {
            int each = (PacketHeader + longest + FcsLength + 3) & ~3, ring = RingLength;
            isLater = frames * each < ring;
            return isLater && Used + frames * each < ring;
        }
        isLater = frames <= MostDescriptors;
        ulong ringBase = Long(RDSAR);
        for (int i = 0, index = _plusReceive; i < frames; i++)
        {
            uint command = (uint)Dma.Read(ringBase + (ulong)index * DescriptorSize, 4);
            if ((command & DescriptorOwn) == 0) return false;
            index = Next(index, command);
            if (index == _plusReceive && i + 1 < frames) return isLater = false;
        }
        return true;
    }

    static int Next(int index, uint command) =>
        (command & EndOfRing) != 0 || index + 1 >= MostDescriptors ? 0 : index + 1;

    bool Deliver(Span<byte> frame, ushort status, in NetHeader header) =>
        IsPlusReceive ? DeliverPlus(frame, status, header) : DeliverBytes(frame, status);

    bool DeliverBytes(ReadOnlySpan<byte> frame, ushort status)
    {
        int all = (PacketHeader + frame.Length + FcsLength + 3) & ~3;
        if (Used + all >= RingLength) return false;
        Span<byte> head = stackalloc byte[PacketHeader];
        BinaryPrimitives.WriteUInt16LittleEndian(head, (ushort)(status | StatusOk));
        BinaryPrimitives.WriteUInt16LittleEndian(head[2..], (ushort)(frame.Length + FcsLength));
        int at = Put(Get16(CBR) & (RingLength - 1), head);
        at = Put(at, frame);
        Put(at, [0, 0, 0, 0]);
        Set16(CBR, (ushort)((Get16(CBR) + all) & (RingLength - 1)));
        return true;
    }

    /// <summary>Writes into the ring; past its end where RCR.WRAP says so. Returns where it goes on.</summary>
    int Put(int at, ReadOnlySpan<byte> bytes)
    {
        int ring = RingLength;
        ulong start = Get(RBSTART);
        if ((Get(RCR) & Wrap) == 0 || ring == 65536)
        {
            int first = Math.Min(bytes.Length, Math.Max(0, ring - at));
            Dma.Write(start + (ulong)at, bytes[..first]);
            if (first < bytes.Length) Dma.Write(start, bytes[first..]);
            return (at + bytes.Length) & (ring - 1);
        }
        Dma.Write(start + (ulong)at, bytes);
        return at + bytes.Length;
    }

    bool DeliverPlus(Span<byte> frame, ushort status, in NetHeader header)
    {
        ulong at = Long(RDSAR) + (ulong)_plusReceive * DescriptorSize;
        uint command = (uint)Dma.Read(at, 4), tag = 0;
        if ((command & DescriptorOwn) == 0) return false;
        uint result = Verify(frame, header);
        ushort control = Get16(CPCR);
        const int TagLength = 4;
        if ((control & StripTag) != 0 && frame.Length >= EthernetHeader + TagLength && frame[12] == 0x81
            && frame[13] == 0)
        {
            tag = TagAvailable | BinaryPrimitives.ReadUInt16LittleEndian(frame[14..]);
            frame[..FrameLayout.Addresses].CopyTo(frame[TagLength..]);
            frame = frame[TagLength..];
        }
        if (frame.Length + FcsLength > (int)(command & BufferSize)) return false;
        ulong buffer = Dma.Read(at + 8, 8);
        Dma.Write(buffer, frame);
        Dma.Write(buffer + (ulong)frame.Length, [0, 0, 0, 0]);
        Dma.Write(at + 4, 4, tag);
        result |= (status & StatusBroadcast) != 0 ? PlusBroadcast : (status & StatusMulticast) != 0 ? PlusMulticast
            : (status & StatusMatch) != 0 ? PlusMatch : 0;
        Dma.Write(at, 4, command & EndOfRing | FirstSegment | LastSegment | result | (uint)(frame.Length + FcsLength));
        _plusReceive = Next(_plusReceive, command);
        return true;
    }

    /// <summary>What the chip finds of the checksums.</summary>
    uint Verify(ReadOnlySpan<byte> frame, in NetHeader header)
    {
        if ((Get16(CPCR) & ReceiveChecksum) == 0) return 0;
        FrameLayout layout = FrameLayout.Of(frame);
        if (layout.Network == 0 || layout.IsIp6) return 0;
        uint result = FrameFinisher.IsIp4HeaderRight(layout, frame) ? 0 : IpFailed;
        if (layout.Transport == 0 || layout.ChecksumOffset == 0) return result | ProtocolIp;
        bool isRight = header.NeedsChecksum || header.IsChecked
            || FrameFinisher.IsTransportRight(layout, frame) != false;
        return result | (layout.Protocol == FrameLayout.Tcp ? ProtocolTcp | (isRight ? 0 : TcpFailed)
            : ProtocolUdp | (isRight ? 0 : UdpFailed));
    }
}
