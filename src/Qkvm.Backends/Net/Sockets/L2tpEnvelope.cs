using System.Buffers.Binary;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>How an L2TPv3 pseudowire is set up by hand at both its ends.</summary>
/// <param name="IsUdp">Over UDP; else IP's protocol 115.</param>
/// <param name="CookieLength">Bytes: 0, 4 or 8.</param>
/// <param name="HasCounter">Four bytes that count the frames.</param>
/// <param name="IsCounterPinned">The counter stays 0, and the peer's is not looked at.</param>
/// <param name="Offset">Bytes between the header and the frame.</param>
public sealed record L2tpOptions(bool IsUdp, bool IsIpv6, uint TransmitSession, uint ReceiveSession,
    int CookieLength = 0, ulong TransmitCookie = 0, ulong ReceiveCookie = 0, bool HasCounter = false,
    bool IsCounterPinned = false, int Offset = 0);

/// <summary>An Ethernet frame's header in an L2TPv3 data message, RFC 3931 sections 4.1.1.1 and 4.1.2.1, with the
/// peer's session and cookie, and a plain counter in place of its sublayer, as QEMU has it.</summary>
public sealed class L2tpEnvelope(L2tpOptions options) : IFrameEnvelope
{
    const uint Version3Data = 3 << 16;
    const int IpHeaderUnit = 4;

    uint _sent, _received;

    public int Length { get; } = (options.IsUdp ? 8 : 4) + options.CookieLength + (options.HasCounter ? 4 : 0)
        + options.Offset;

    public void Write(Span<byte> datagram)
    {
        Span<byte> at = datagram[..Length];
        at.Clear();
        if (options.IsUdp) Put(ref at, Version3Data);
        Put(ref at, options.TransmitSession);
        if (options.CookieLength == 8) Put(ref at, (uint)(options.TransmitCookie >> 32));
        if (options.CookieLength != 0) Put(ref at, (uint)options.TransmitCookie);
        if (options.HasCounter && !options.IsCounterPinned) Put(ref at, ++_sent);
    }

    /// <remarks>A frame whose counter is not after the last one's came too late or twice. RFC 3931 section
    /// 4.6.1.</remarks>
    public int Open(ReadOnlySpan<byte> datagram)
    {
        int start = options.IsUdp || options.IsIpv6 || datagram.Length == 0 ? 0
            : (datagram[0] & 15) * IpHeaderUnit;                   // a raw socket of IPv4 keeps IP's header
        if (datagram.Length < start + Length) return -1;
        ReadOnlySpan<byte> at = datagram[start..];
        if (options.IsUdp) Take(ref at);
        if (Take(ref at) != options.ReceiveSession) return -1;
        ulong cookie = options.CookieLength == 8 ? (ulong)Take(ref at) << 32 : 0;
        if (options.CookieLength != 0) cookie |= Take(ref at);
        if (cookie != options.ReceiveCookie) return -1;
        if (options.HasCounter && !options.IsCounterPinned)
        {
            uint counter = Take(ref at);
            if ((int)(counter - _received) <= 0 && _received != 0) return -1;
            _received = counter;
        }
        return start + Length;
    }

    static void Put(ref Span<byte> at, uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(at, value);
        at = at[4..];
    }

    static uint Take(ref ReadOnlySpan<byte> at)
    {
        uint value = BinaryPrimitives.ReadUInt32BigEndian(at);
        at = at[4..];
        return value;
    }
}
