using System.Buffers.Binary;

namespace Qkvm.Hw.Tests.Net;

/// <summary>Frames as hosts send them, with checksums computed word by word.</summary>
static class Frames
{
    public static readonly byte[] Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    public const int Ip = 14, Tcp = 34, Payload = 54;

    /// <summary>Counted bytes to an address.</summary>
    public static byte[] Plain(int length, params byte[] target)
    {
        var frame = new byte[length];
        for (int i = 0; i < length; i++) frame[i] = (byte)(i * 7);
        (target.Length == 6 ? target : Mac).CopyTo(frame, 0);
        if (length > 13) (frame[12], frame[13]) = (0x88, 0xB5);    // a local experiment's type
        return frame;
    }

    /// <summary>TCP over IPv4 to the card, with its checksums.</summary>
    public static byte[] TcpFrame(int payload, uint sequence = 1000, ushort id = 7, byte flags = 0x18, int from = 0)
    {
        byte[] frame = Plain(Payload + payload);
        (frame[12], frame[13]) = (8, 0);
        frame.AsSpan(Ip, 40).Clear();
        frame[Ip] = 0x45;
        Put(frame, Ip + 2, 40 + payload);
        Put(frame, Ip + 4, id);
        (frame[Ip + 8], frame[Ip + 9]) = (64, 6);
        ((ReadOnlySpan<byte>)[10, 0, 0, 1, 10, 0, 0, 2]).CopyTo(frame.AsSpan(Ip + 12));
        Put(frame, Tcp, 1234);
        Put(frame, Tcp + 2, 80);
        BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(Tcp + 4), sequence);
        (frame[Tcp + 12], frame[Tcp + 13]) = (0x50, flags);
        for (int i = 0; i < payload; i++) frame[Payload + i] = (byte)((from + i) * 13);
        Put(frame, Ip + 10, ~Sum(frame, Ip, 20, 0));
        Put(frame, Tcp + 16, ~Sum(frame, Tcp, frame.Length - Tcp, Pseudo(frame, frame.Length - Tcp)));
        return frame;
    }

    /// <summary>The same as drivers give it to a card that cuts: no lengths, no sums but the pseudo-header's.</summary>
    public static byte[] ForCutting(byte[] frame)
    {
        byte[] raw = (byte[])frame.Clone();
        Put(raw, Ip + 2, 0);
        Put(raw, Ip + 10, 0);
        Put(raw, Tcp + 16, Pseudo(frame, 0));
        return raw;
    }

    /// <summary>The same without the sum of TCP: the pseudo-header's stands in its place.</summary>
    public static byte[] WithoutSum(byte[] frame)
    {
        byte[] raw = (byte[])frame.Clone();
        Put(raw, Tcp + 16, Pseudo(frame, frame.Length - Tcp));
        return raw;
    }

    public static void Put(byte[] frame, int at, int value) =>
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(at), (ushort)value);

    static int Pseudo(byte[] frame, int length) => Sum(frame, Ip + 12, 8, 6 + length);

    static int Sum(byte[] frame, int at, int length, int start)
    {
        int sum = start;
        for (int i = 0; i < length; i++) sum += i % 2 == 0 ? frame[at + i] << 8 : frame[at + i];
        while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
        return sum;
    }
}
