using System.Buffers.Binary;
using System.Net;

namespace Qkvm.Host.Sockets;

/// <summary>An address of IPv4 or IPv6 as a value. Those of IPv4 are kept as ::ffff:a.b.c.d (RFC 4291, section
/// 2.5.5.2), which no packet of IPv6 may carry.</summary>
public readonly record struct IpAddress(UInt128 Bits)
{
    const int V4Length = 4, V6Length = 16;

    public static readonly IpAddress Loopback4 = V4(0x7F000001), Loopback6 = new(UInt128.One);

    public static IpAddress V4(uint bits) => new((UInt128)0xFFFF << 32 | bits);

    /// <param name="bytes">4 or 16, in the network's order.</param>
    public static IpAddress Read(ReadOnlySpan<byte> bytes) => bytes.Length == V4Length
        ? V4(BinaryPrimitives.ReadUInt32BigEndian(bytes)) : new(BinaryPrimitives.ReadUInt128BigEndian(bytes));

    public static bool TryParse(string text, out IpAddress address)
    {
        address = default;
        if (!IPAddress.TryParse(text, out IPAddress? parsed)) return false;
        address = Of(parsed);
        return true;
    }

    public static IpAddress Of(IPAddress address) => Read(address.GetAddressBytes());

    public bool IsV4 => Bits >> 32 == 0xFFFF;

    public uint V4Bits => (uint)Bits;

    /// <summary>Bytes in a packet: 4 or 16.</summary>
    public int Length => IsV4 ? V4Length : V6Length;

    public bool IsLoopback => IsV4 ? V4Bits >> 24 == 127 : Bits == UInt128.One;

    public bool IsMulticast => IsV4 ? V4Bits >> 28 == 0xE : Bits >> 120 == 0xFF;

    /// <summary>0.0.0.0/8 or "::".</summary>
    public bool IsUnspecified => IsV4 ? V4Bits >> 24 == 0 : Bits == 0;

    /// <summary>fe80::/10.</summary>
    public bool IsLinkLocal => Bits >> 118 == 0x3FA;

    /// <param name="target">At least <see cref="Length"/> bytes.</param>
    public void Write(Span<byte> target)
    {
        if (IsV4) BinaryPrimitives.WriteUInt32BigEndian(target, V4Bits);
        else BinaryPrimitives.WriteUInt128BigEndian(target, Bits);
    }

    /// <summary>Whether the first bits are the same.</summary>
    /// <param name="prefix">Of this family's bits.</param>
    public bool IsIn(IpAddress network, int prefix)
    {
        int shift = (IsV4 ? 32 : 128) - prefix;
        return IsV4 == network.IsV4 && (shift >= 128 || (Bits ^ network.Bits) >> shift == 0);
    }

    public override string ToString()
    {
        Span<byte> bytes = stackalloc byte[Length];
        Write(bytes);
        return new IPAddress(bytes).ToString();
    }
}

/// <summary>An address and a port.</summary>
public readonly record struct IpEndpoint(IpAddress Address, ushort Port)
{
    public const int MaxNameLength = 28;

    /// <summary>struct sockaddr_in or sockaddr_in6; returns its length.</summary>
    internal int WriteName(Span<byte> name)
    {
        name[..MaxNameLength].Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(name, (ushort)(Address.IsV4 ? SocketName.Inet : SocketName.Inet6));
        BinaryPrimitives.WriteUInt16BigEndian(name[2..], Port);
        Address.Write(name[(Address.IsV4 ? 4 : 8)..]);
        return Address.IsV4 ? 16 : MaxNameLength;
    }

    /// <summary>All zeros for other families.</summary>
    internal static IpEndpoint ReadName(ReadOnlySpan<byte> name) => BinaryPrimitives.ReadUInt16LittleEndian(name) switch
    {
        SocketName.Inet => new(IpAddress.Read(name.Slice(4, 4)), BinaryPrimitives.ReadUInt16BigEndian(name[2..])),
        SocketName.Inet6 => new(IpAddress.Read(name.Slice(8, 16)), BinaryPrimitives.ReadUInt16BigEndian(name[2..])),
        _ => default,
    };

    public override string ToString() => Address.IsV4 ? $"{Address}:{Port}" : $"[{Address}]:{Port}";
}
