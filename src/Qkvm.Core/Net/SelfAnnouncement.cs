using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Core.Net;

/// <summary>The frame that tells switches where a card is: a RARP request about itself, as QEMU sends it. RFC
/// 903.</summary>
public static class SelfAnnouncement
{
    const int Length = 60, Mac = 6, EtherType = 12, Body = 14, Source = Body + 8, Target = Body + 18;
    const ushort Rarp = 0x8035, Ethernet = 1, Ip4 = 0x0800, RequestReverse = 3;

    /// <param name="mac">6 bytes.</param>
    public static byte[] Frame(ReadOnlySpan<byte> mac)
    {
        var frame = new byte[Length];
        frame.AsSpan(0, Mac).Fill(0xFF);
        mac.CopyTo(frame.AsSpan(Mac));
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(EtherType), Rarp);
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(Body), Ethernet);
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(Body + 2), Ip4);
        (frame[Body + 4], frame[Body + 5]) = (Mac, 4);             // lengths of the addresses
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(Body + 6), RequestReverse);
        mac.CopyTo(frame.AsSpan(Source));
        mac.CopyTo(frame.AsSpan(Target));
        return frame;
    }

    public static void Send(INetQueue wire, ReadOnlySpan<byte> mac) =>
        wire.Send(default, new ScatterList([Frame(mac)], 0, 0, Length));
}
