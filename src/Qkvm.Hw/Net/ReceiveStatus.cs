using Qkvm.Core.Net;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>What a card finds of a received frame's checksums. Intel 317453, section 3.2.9.</summary>
static class ReceiveStatus
{
    const byte IgnoreChecksum = 4, TransportChecked = 0x20, IpChecked = 0x40, TransportError = 0x20, IpError = 0x40;
    const int StatusShift = 32, ErrorShift = 40;

    /// <param name="control">RXCSUM.</param>
    /// <returns>The upper half of a legacy descriptor but for its length: packet checksum, status, errors.</returns>
    public static ulong Of(uint control, ReadOnlySpan<byte> frame, in NetHeader header)
    {
        int start = (int)(control & 0xFF);
        ulong result = start < frame.Length ? (ulong)InternetChecksum.Sum(frame[start..]) << 16 : 0;
        if ((control & (IpOffload | TransportOffload)) == 0) return result | (ulong)IgnoreChecksum << StatusShift;
        FrameLayout layout = FrameLayout.Of(frame);
        if (layout.Network == 0) return result | (ulong)IgnoreChecksum << StatusShift;
        if ((control & IpOffload) != 0 && !layout.IsIp6)
        {
            result |= (ulong)IpChecked << StatusShift;
            if (!FrameFinisher.IsIp4HeaderRight(layout, frame)) result |= (ulong)IpError << ErrorShift;
        }
        if ((control & TransportOffload) == 0 || layout.ChecksumOffset == 0 || layout.Transport == 0) return result;
        bool isRight = header.NeedsChecksum || header.IsChecked
            || FrameFinisher.IsTransportRight(layout, frame) != false;
        result |= (ulong)TransportChecked << StatusShift;
        if (!isRight) result |= (ulong)TransportError << ErrorShift;
        return result;
    }
}
