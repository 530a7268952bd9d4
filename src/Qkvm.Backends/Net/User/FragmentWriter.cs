using System.Buffers.Binary;

namespace Qkvm.Backends.Net.User;

/// <summary>Cuts packets for the guest that are longer than its link takes. RFC 791, section 3.2; RFC 8200, section
/// 4.5.</summary>
static class FragmentWriter
{
    /// <param name="frame">Ethernet, an IP header without options or extensions, and the payload.</param>
    public static void Send(GuestWire wire, ReadOnlySpan<byte> frame, bool isV4)
    {
        int headers = FrameWriter.HeadersLength(isV4);
        if (frame.Length <= FrameWriter.EthernetLength + UserStack.Mtu) { wire.Send(frame); return; }
        const int extension = 8;
        int added = isV4 ? 0 : extension, largest = (UserStack.Mtu - FrameWriter.IpLength(isV4) - added) & ~7;
        uint identification = wire.NextIdentification();
        ReadOnlySpan<byte> payload = frame[headers..];
        Span<byte> piece = stackalloc byte[FrameWriter.EthernetLength + UserStack.Mtu];
        frame[..headers].CopyTo(piece);
        for (int at = 0; at < payload.Length; at += largest)
        {
            ReadOnlySpan<byte> data = payload[at..Math.Min(at + largest, payload.Length)];
            bool hasMore = at + data.Length < payload.Length;
            Span<byte> ip = piece[FrameWriter.EthernetLength..headers];
            if (isV4) Mark4(ip, (ushort)identification, at, hasMore, data.Length);
            else Mark6(ip, piece[headers..], frame[FrameWriter.EthernetLength + 6], identification, at, hasMore,
                data.Length);
            data.CopyTo(piece[(headers + added)..]);
            wire.Send(piece[..(headers + added + data.Length)]);
        }
    }

    static void Mark4(Span<byte> ip, ushort identification, int at, bool hasMore, int length)
    {
        const int moreFragments = 0x2000;
        BinaryPrimitives.WriteUInt16BigEndian(ip[2..], (ushort)(ip.Length + length));
        BinaryPrimitives.WriteUInt16BigEndian(ip[4..], identification);
        BinaryPrimitives.WriteUInt16BigEndian(ip[6..], (ushort)(at / 8 | (hasMore ? moreFragments : 0)));
        FrameWriter.SetIp4Checksum(ip);
    }

    static void Mark6(Span<byte> ip, Span<byte> extension, byte next, uint identification, int at, bool hasMore,
        int length)
    {
        BinaryPrimitives.WriteUInt16BigEndian(ip[4..], (ushort)(8 + length));
        ip[6] = (byte)IpProtocol.Fragment;
        (extension[0], extension[1]) = (next, 0);
        BinaryPrimitives.WriteUInt16BigEndian(extension[2..], (ushort)(at | (hasMore ? 1 : 0)));
        BinaryPrimitives.WriteUInt32BigEndian(extension[4..], identification);
    }
}
