using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Core.Net;

/// <summary>Does by itself what a frame's header leaves undone and the other side does not take. One sender's, or one
/// receiver's.</summary>
public sealed class FrameFinisher
{
    const int LargestFrame = 65536 + 128;

    readonly Memory<byte>[] _piece = [new byte[LargestFrame]];
    byte[]? _whole;

    /// <summary>Sends a frame as one, or in segments; drops it where the header makes no sense.</summary>
    /// <param name="taken">What the queue's backend takes.</param>
    public void Send(INetQueue queue, NetOffloads taken, in NetHeader header, in ScatterList frame)
    {
        if (header.LeftUndone is not { } undone) return;
        if ((undone & ~taken) == 0)
        {
            queue.Send(header, frame);
            return;
        }
        if (frame.Length > LargestFrame) return;
        _whole ??= new byte[LargestFrame];
        frame.CopyTo(_whole);
        var cutter = new SegmentCutter(header, _whole.AsSpan(0, (int)frame.Length));
        while (cutter.TryNext(_piece[0].Span, out int length))
            queue.Send(default, new ScatterList(_piece, 0, 0, length));
    }

    /// <summary>Writes the checksum that a header asks for; false for one outside the frame.</summary>
    public static bool TryCompleteChecksum(in NetHeader header, Span<byte> frame)
    {
        int at = header.ChecksumStart + header.ChecksumOffset;
        if (at + 2 > frame.Length || header.ChecksumStart >= frame.Length) return false;
        ushort sum = InternetChecksum.Sum(frame[header.ChecksumStart..]);
        BinaryPrimitives.WriteUInt16BigEndian(frame[at..], InternetChecksum.Complement(sum));
        return true;
    }

    /// <summary>Whether the checksum of an IPv4 header is right.</summary>
    public static bool IsIp4HeaderRight(in FrameLayout layout, ReadOnlySpan<byte> frame) =>
        InternetChecksum.Sum(frame.Slice(layout.Network, layout.Ip4Length(frame))) == ushort.MaxValue;

    /// <summary>Whether the checksum of TCP or UDP is right; null for a packet without one.</summary>
    public static bool? IsTransportRight(in FrameLayout layout, ReadOnlySpan<byte> frame)
    {
        if (layout.Transport == 0 || layout.ChecksumOffset == 0) return null;
        ReadOnlySpan<byte> packet = frame[layout.Transport..layout.End];
        if (packet.Length < layout.ChecksumOffset + 2) return false;
        if (layout.Protocol == FrameLayout.Udp && packet[layout.ChecksumOffset] == 0
            && packet[layout.ChecksumOffset + 1] == 0) return null;
        ushort pseudo = InternetChecksum.PseudoHeader(layout.IpAddresses(frame), layout.Protocol, packet.Length);
        return InternetChecksum.Sum(packet, pseudo) == ushort.MaxValue;
    }
}
