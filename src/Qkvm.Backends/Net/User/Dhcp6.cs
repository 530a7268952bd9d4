using System.Buffers.Binary;
using System.Text;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Tells guests what router advertisements do not. DHCPv6 without addresses: RFC 8415, section 6.1; options
/// RFC 3646 and RFC 5970.</summary>
sealed class Dhcp6(UserStack stack)
{
    const byte Reply = 7, InformationRequest = 11;
    const ushort ClientId = 1, ServerId = 2, NonTemporary = 3, Temporary = 4, OptionRequest = 6, Nameservers = 23,
        SearchList = 24, PrefixDelegation = 25, BootFileUrl = 59;
    const int HeaderLength = 4, OptionHeader = 4, MaxIdentifier = 130, MaxReply = 1200;

    static readonly IpAddress s_servers = new((UInt128)0xFF02 << 112 | 0x0001_0002),
        s_router = new((UInt128)0xFE80 << 112 | 2);

    /// <summary>A message to port 547.</summary>
    public void Input(IpEndpoint guest, IpEndpoint to, ReadOnlySpan<byte> message, MacAddress from)
    {
        if (message.Length < HeaderLength || message[0] != InformationRequest || (to.Address != s_servers
            && !stack.Discovery.IsOurs(to.Address))) return;
        ReadOnlySpan<byte> options = message[HeaderLength..];
        // Section 16.12: who asks for addresses, or another server, is not answered.
        if (!IsWhole(options) || Has(options, NonTemporary) || Has(options, Temporary)
            || Has(options, PrefixDelegation)) return;
        if (Has(options, ServerId) && !Find(options, ServerId).SequenceEqual(Identifier())) return;
        ReadOnlySpan<byte> client = Find(options, ClientId);
        if (client.Length > MaxIdentifier) return;
        Span<byte> reply = stack.Udp.DataFor(isV4: false)[..MaxReply];
        message[..HeaderLength].CopyTo(reply);
        reply[0] = Reply;
        int at = HeaderLength;
        if (client.Length > 0) Add(reply, ref at, ClientId, client);
        Add(reply, ref at, ServerId, Identifier());
        UserNetOptions own = stack.Options;
        if (!own.Restrict && Wants(options, Nameservers)) Add(reply, ref at, Nameservers, Bytes(own.Nameserver6));
        if (own.SearchDomains.Count > 0 && Wants(options, SearchList))
            Add(reply, ref at, SearchList, DomainSearch.Encode(own.SearchDomains));
        if (own.BootFile is { } file && Wants(options, BootFileUrl))
            Add(reply, ref at, BootFileUrl, Encoding.UTF8.GetBytes($"tftp://[{own.Host6}]/{file}"));
        stack.Udp.SendToGuest(to with { Address = s_router }, guest, from, at);
    }

    /// <summary>DUID-LL of Ethernet: section 11.4.</summary>
    byte[] Identifier()
    {
        byte[] identifier = [0, 3, 0, 1, 0, 0, 0, 0, 0, 0];
        stack.Mac6.Write(identifier.AsSpan(4));
        return identifier;
    }

    static byte[] Bytes(IpAddress address)
    {
        var bytes = new byte[16];
        address.Write(bytes);
        return bytes;
    }

    /// <summary>One that names no options gets all.</summary>
    static bool Wants(ReadOnlySpan<byte> options, ushort code)
    {
        if (!Has(options, OptionRequest)) return true;
        ReadOnlySpan<byte> codes = Find(options, OptionRequest);
        for (; codes.Length >= 2; codes = codes[2..])
            if (BinaryPrimitives.ReadUInt16BigEndian(codes) == code) return true;
        return false;
    }

    static bool IsWhole(ReadOnlySpan<byte> options)
    {
        while (options.Length >= OptionHeader && SizeOf(options) <= options.Length)
            options = options[SizeOf(options)..];
        return options.Length == 0;
    }

    static bool Has(ReadOnlySpan<byte> options, ushort code) => TryFind(options, code, out _);

    static ReadOnlySpan<byte> Find(ReadOnlySpan<byte> options, ushort code)
    {
        TryFind(options, code, out ReadOnlySpan<byte> data);
        return data;
    }

    /// <param name="options">Whole: see <see cref="IsWhole"/>.</param>
    static bool TryFind(ReadOnlySpan<byte> options, ushort code, out ReadOnlySpan<byte> data)
    {
        for (; options.Length > 0; options = options[SizeOf(options)..])
        {
            data = options[OptionHeader..SizeOf(options)];
            if (BinaryPrimitives.ReadUInt16BigEndian(options) == code) return true;
        }
        data = default;
        return false;
    }

    static int SizeOf(ReadOnlySpan<byte> option) => OptionHeader + BinaryPrimitives.ReadUInt16BigEndian(option[2..]);

    /// <summary>Leaves out what has no room.</summary>
    static void Add(Span<byte> reply, ref int at, ushort code, ReadOnlySpan<byte> data)
    {
        if (at + OptionHeader + data.Length > reply.Length) return;
        BinaryPrimitives.WriteUInt16BigEndian(reply[at..], code);
        BinaryPrimitives.WriteUInt16BigEndian(reply[(at + 2)..], (ushort)data.Length);
        data.CopyTo(reply[(at + OptionHeader)..]);
        at += OptionHeader + data.Length;
    }
}
