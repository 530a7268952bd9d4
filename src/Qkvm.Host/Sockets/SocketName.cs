using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Qkvm.Host.Sockets;

/// <summary>One end of a socket as the kernel knows it: struct sockaddr of ip(7), ipv6(7), unix(7), vsock(7).</summary>
/// <param name="Family">"ipv4", "ipv6", "unix", "vsock"; empty for what is none of these.</param>
/// <param name="Service">The port, or a UNIX socket's path.</param>
public sealed record SocketName(string Family, string Host, string Service)
{
    internal const int Unix = 1, Inet = 2, Inet6 = 10, Vsock = 40, MaxLength = 110, MaxPath = 107;

    public override string ToString() => Family switch
    {
        "ipv6" => $"[{Host}]:{Service}",
        "unix" => Service,
        _ => $"{Host}:{Service}",
    };

    internal static byte[] Encode(IPAddress address, int port)
    {
        bool wide = address.AddressFamily == AddressFamily.InterNetworkV6;
        var name = new byte[wide ? 28 : 16];
        BinaryPrimitives.WriteUInt16LittleEndian(name, (ushort)(wide ? Inet6 : Inet));
        BinaryPrimitives.WriteUInt16BigEndian(name.AsSpan(2), (ushort)port);
        address.TryWriteBytes(name.AsSpan(wide ? 8 : 4), out _);
        if (wide) BinaryPrimitives.WriteUInt32LittleEndian(name.AsSpan(24), (uint)address.ScopeId);
        return name;
    }

    /// <returns>Null for a path that is too long.</returns>
    internal static byte[]? Encode(UnixAddress address)
    {
        byte[] path = Encoding.UTF8.GetBytes(address.Path);
        if (path.Length > MaxPath) return null;
        int length = 3 + path.Length;                              // family, and a zero before or behind
        var name = new byte[address is { IsAbstract: true, IsTight: false } ? MaxLength : length];
        name[0] = Unix;
        path.CopyTo(name, address.IsAbstract ? 3 : 2);
        return name;
    }

    internal static byte[] Encode(VsockAddress address)
    {
        var name = new byte[16];
        BinaryPrimitives.WriteUInt16LittleEndian(name, Vsock);
        BinaryPrimitives.WriteUInt32LittleEndian(name.AsSpan(4), address.Port);
        BinaryPrimitives.WriteUInt32LittleEndian(name.AsSpan(8), address.Cid);
        return name;
    }

    internal static SocketName Decode(ReadOnlySpan<byte> name)
    {
        if (name.Length < 2) return new SocketName("", "", "");
        switch (BinaryPrimitives.ReadUInt16LittleEndian(name))
        {
            case Inet: return new SocketName("ipv4", $"{new IPAddress(name.Slice(4, 4))}",
                $"{BinaryPrimitives.ReadUInt16BigEndian(name[2..])}");
            case Inet6: return new SocketName("ipv6", $"{new IPAddress(name.Slice(8, 16))}",
                $"{BinaryPrimitives.ReadUInt16BigEndian(name[2..])}");
            case Vsock:
                return new SocketName("vsock", $"{BinaryPrimitives.ReadUInt32LittleEndian(name[8..])}",
                    $"{BinaryPrimitives.ReadUInt32LittleEndian(name[4..])}");
            case Unix:
                ReadOnlySpan<byte> path = name[2..];
                bool isAbstract = path.Length > 1 && path[0] == 0;
                return new SocketName("unix", "", isAbstract ? "@" + Encoding.UTF8.GetString(path[1..].TrimEnd((byte)0))
                    : Encoding.UTF8.GetString(path).TrimEnd('\0'));
            default: return new SocketName("", "", "");
        }
    }
}
