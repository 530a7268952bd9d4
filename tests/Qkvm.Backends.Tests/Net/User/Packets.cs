using System.Buffers.Binary;
using System.Net;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>Packets as the RFCs have them, written down once more.</summary>
static class Packets
{
    public static readonly byte[] GuestMac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    public static readonly byte[] Broadcast = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    public static readonly byte[] HostMac = [0x52, 0x55, 10, 0, 2, 2];

    public static byte[] Ethernet(byte[] to, ushort type, byte[] payload) =>
        [.. to, .. GuestMac, (byte)(type >> 8), (byte)type, .. payload];

    public static byte[] Arp(string from, string target) => Ethernet(Broadcast, 0x806,
        [0, 1, 8, 0, 6, 4, 0, 1, .. GuestMac, .. Address(from), 0, 0, 0, 0, 0, 0, .. Address(target)]);

    public static byte[] ArpReply(string from, string target) => Ethernet(HostMac, 0x806,
        [0, 1, 8, 0, 6, 4, 0, 2, .. GuestMac, .. Address(from), .. HostMac, .. Address(target)]);

    public static byte[] Ip4(string from, string to, byte protocol, byte[] payload, ushort fragment = 0x4000,
        ushort id = 0)
    {
        byte[] header = [0x45, 0, .. Big16(20 + payload.Length), .. Big16(id), .. Big16(fragment), 64, protocol, 0, 0,
            .. Address(from), .. Address(to)];
        Big16(Sum(header)).CopyTo(header, 10);
        return Ethernet(HostMac, 0x800, [.. header, .. payload]);
    }

    public static byte[] Ip6(string from, string to, byte protocol, byte[] payload, byte hopLimit = 255) =>
        Ethernet([0x33, 0x33, 0, 0, 0, 2], 0x86DD, [0x60, 0, 0, 0, .. Big16(payload.Length), protocol, hopLimit,
            .. Address(from), .. Address(to), .. payload]);

    public static byte[] Udp(string from, int fromPort, string to, int toPort, byte[] data) => Ip(from, to, 17,
        WithSum([.. Big16(fromPort), .. Big16(toPort), .. Big16(8 + data.Length), 0, 0, .. data], from, to, 17, 6));

    public const int Fin = 1, Syn = 2, Rst = 4, Psh = 8, Ack = 16;

    public static byte[] Tcp(string from, int fromPort, string to, int toPort, uint sequence, uint acknowledgment,
        int flags, byte[]? data = null, int window = 65535, byte[]? options = null)
    {
        byte[] all = [.. Big16(fromPort), .. Big16(toPort), .. Big32(sequence), .. Big32(acknowledgment),
            (byte)((20 + (options?.Length ?? 0)) / 4 << 4), (byte)flags, .. Big16(window), 0, 0, 0, 0, .. options ?? [],
            .. data ?? []];
        return Ip(from, to, 6, WithSum(all, from, to, 6, 16));
    }

    public static byte[] Icmp(string from, string to, params byte[] message)
    {
        byte[] copy = [.. message];
        if (from.Contains(':')) return Ip6(from, to, 58, WithSum(copy, from, to, 58, 2));
        Big16(Sum(copy)).CopyTo(copy, 2);
        return Ip4(from, to, 1, copy);
    }

    public static byte[] Ip(string from, string to, byte protocol, byte[] payload) => from.Contains(':')
        ? Ip6(from, to, protocol, payload) : Ip4(from, to, protocol, payload);

    /// <summary>Puts the checksum with a pseudo header into the payload.</summary>
    public static byte[] WithSum(byte[] payload, string from, string to, byte protocol, int at)
    {
        Big16(0).CopyTo(payload, at);
        Big16(Sum([.. Pseudo(from, to, protocol, payload.Length), .. payload])).CopyTo(payload, at);
        return payload;
    }

    public static byte[] Pseudo(string from, string to, byte protocol, int length) =>
        [.. Address(from), .. Address(to), 0, 0, .. Big16(length), 0, 0, 0, protocol];

    public static byte[] Address(string text) => IPAddress.Parse(text).GetAddressBytes();

    public static byte[] Big16(int value) => [(byte)(value >> 8), (byte)value];

    public static byte[] Big32(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8),
        (byte)value];

    public static ushort Read16(byte[] bytes, int at) => BinaryPrimitives.ReadUInt16BigEndian(bytes.AsSpan(at));

    public static uint Read32(byte[] bytes, int at) => BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(at));

    public static ushort Sum(byte[] bytes)
    {
        uint sum = 0;
        for (int i = 0; i < bytes.Length; i++) sum += (uint)(bytes[i] << (i % 2 == 0 ? 8 : 0));
        while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
        return (ushort)~sum;
    }
}
