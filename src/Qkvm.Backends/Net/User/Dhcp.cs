using System.Buffers.Binary;
using System.Text;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Gives the guest its address. RFC 2131, RFC 2132; plain BOOTP is RFC 951.</summary>
sealed class Dhcp(UserStack stack)
{
    // The fixed part, RFC 2131, section 2
    const int Operation = 0, HardwareType = 1, HardwareLength = 2, ClientAddress = 12, YourAddress = 16,
        ServerAddress = 20, HardwareAddress = 28, HardwareAddressLength = 16, BootFile = 108,
        Cookie = 236, OptionsStart = 240, MessageLength = 548;
    /// <summary>Bytes of a boot file's name, without the zero behind it.</summary>
    public const int MaxBootFile = 127;

    const byte BootRequest = 1, BootReply = 2, Ethernet = 1;
    const uint MagicCookie = 0x63825363;

    const byte Subnet = 1, Router = 3, NameserverOption = 6, HostName = 12, DomainName = 15, RequestedAddress = 50,
        LeaseTime = 51, MessageType = 53, Server = 54, Message = 56, TftpServer = 66, SearchList = 119, End = 255;
    const byte Discover = 1, Offer = 2, Request = 3, Ack = 5, Nak = 6, Release = 7;

    const int PoolSize = 16;
    const uint Lease = 86_400;                                     // seconds
    const ushort ServerPort = 67, ClientPort = 68;

    /// <summary>Who has the addresses of the pool.</summary>
    readonly MacAddress[] _leases = new MacAddress[PoolSize];

    /// <summary>A message to port 67.</summary>
    public void Input(ReadOnlySpan<byte> request, MacAddress from)
    {
        if (request.Length < Cookie || request[Operation] != BootRequest || request[HardwareType] != Ethernet
            || request[HardwareLength] != MacAddress.Length) return;
        bool hasOptions = request.Length > OptionsStart
            && BinaryPrimitives.ReadUInt32BigEndian(request[Cookie..]) == MagicCookie;
        ReadOnlySpan<byte> options = hasOptions ? request[OptionsStart..] : default;
        MacAddress client = MacAddress.Read(request[HardwareAddress..]);
        if (client == default) client = from;
        byte type = Find(options, MessageType) is [var given] ? given : (byte)0;
        IpAddress wanted = Find(options, RequestedAddress) is { Length: 4 } address ? IpAddress.Read(address)
            : IpAddress.Read(request.Slice(ClientAddress, 4));
        switch (type)
        {
            case Discover:
                if ((Take(wanted, client) ?? TakeAny(client)) is { } offered) Reply(request, Offer, offered);
                break;
            case Request or 0:
                if ((wanted.IsUnspecified ? TakeAny(client) : Take(wanted, client)) is { } granted)
                    Reply(request, type == 0 ? (byte)0 : Ack, granted);
                else Reply(request, Nak, IpAddress.V4(uint.MaxValue));
                break;
            case Release:
                if (Array.IndexOf(_leases, client) is >= 0 and var held) _leases[held] = default;
                break;
        }
    }

    IpAddress AddressOf(int index) => IpAddress.V4(stack.Options.DhcpStart.V4Bits + (uint)index);

    /// <summary>That address, if it is of the pool and free or the client's already.</summary>
    IpAddress? Take(IpAddress wanted, MacAddress client)
    {
        uint index = wanted.V4Bits - stack.Options.DhcpStart.V4Bits;
        if (wanted.IsUnspecified || index >= PoolSize || !stack.Routes.IsInside(wanted)
            || _leases[index] != default && _leases[index] != client) return null;
        int before = Array.IndexOf(_leases, client);
        if (before >= 0) _leases[before] = default;
        _leases[index] = client;
        return wanted;
    }

    /// <summary>The client's own or the next free one; null if all are taken.</summary>
    IpAddress? TakeAny(MacAddress client)
    {
        int index = Array.IndexOf(_leases, client);
        if (index < 0) index = Array.IndexOf(_leases, default);
        if (index < 0 || !stack.Routes.IsInside(AddressOf(index))) return null;
        _leases[index] = client;
        return AddressOf(index);
    }

    /// <param name="type">0: plain BOOTP.</param>
    void Reply(ReadOnlySpan<byte> request, byte type, IpAddress yours)
    {
        UserNetOptions options = stack.Options;
        Span<byte> reply = stack.Udp.DataFor(isV4: true)[..MessageLength];
        reply.Clear();
        request[..(HardwareAddress + HardwareAddressLength)].CopyTo(reply);
        reply[Operation] = BootReply;
        yours.Write(reply[YourAddress..]);
        options.Host.Write(reply[ServerAddress..]);
        BinaryPrimitives.WriteUInt32BigEndian(reply[Cookie..], MagicCookie);
        var writer = new OptionWriter(reply[OptionsStart..]);
        if (type != 0) writer.Add(MessageType, [type]);
        if (type == Nak) writer.Add(Message, "requested address not available");
        else Describe(ref writer, reply);
        writer.Close();
        stack.Udp.SendToGuest(new IpEndpoint(options.Host, ServerPort), new IpEndpoint(IpAddress.V4(uint.MaxValue),
            ClientPort), MacAddress.Broadcast, MessageLength);
    }

    void Describe(ref OptionWriter writer, Span<byte> reply)
    {
        UserNetOptions options = stack.Options;
        // A name of the host's own would be seen in the guest: only what the user gives.
        if (options.BootFile is { } file) Encoding.UTF8.TryGetBytes(file, reply.Slice(BootFile, MaxBootFile), out _);
        writer.Add(Server, options.Host);
        writer.Add(Subnet, options.Netmask);
        if (!options.Restrict)
        {
            writer.Add(Router, options.Host);
            writer.Add(NameserverOption, options.Nameserver);
        }
        writer.Add(LeaseTime, IpAddress.V4(Lease));
        writer.Add(HostName, options.HostName);
        writer.Add(DomainName, options.DomainName);
        writer.Add(TftpServer, options.TftpServerName);
        if (options.SearchDomains.Count > 0) writer.AddLong(SearchList, DomainSearch.Encode(options.SearchDomains));
    }

    /// <summary>The data of an option; empty if it is not there, or broken.</summary>
    static ReadOnlySpan<byte> Find(ReadOnlySpan<byte> options, byte code)
    {
        const byte padding = 0;
        while (options.Length > 0 && options[0] != End)
        {
            if (options[0] == padding) { options = options[1..]; continue; }
            if (options.Length < 2 || options[1] > options.Length - 2) break;
            if (options[0] == code) return options.Slice(2, options[1]);
            options = options[(2 + options[1])..];
        }
        return default;
    }

    /// <summary>Appends options as long as there is room.</summary>
    ref struct OptionWriter(Span<byte> room)
    {
        readonly Span<byte> _room = room;
        int _at;

        public void Add(byte code, scoped ReadOnlySpan<byte> data)
        {
            if (data.Length > byte.MaxValue || _at + 2 + data.Length >= _room.Length) return;
            (_room[_at], _room[_at + 1]) = (code, (byte)data.Length);
            data.CopyTo(_room[(_at + 2)..]);
            _at += 2 + data.Length;
        }

        public void Add(byte code, IpAddress address)
        {
            Span<byte> bytes = stackalloc byte[4];
            address.Write(bytes);
            Add(code, bytes);
        }

        public void Add(byte code, string? text)
        {
            if (!string.IsNullOrEmpty(text)) Add(code, Encoding.UTF8.GetBytes(text));
        }

        /// <summary>In several of that code where one does not hold it. RFC 3396.</summary>
        public void AddLong(byte code, ReadOnlySpan<byte> data)
        {
            for (; data.Length > 0; data = data[Math.Min(data.Length, byte.MaxValue)..])
                Add(code, data[..Math.Min(data.Length, byte.MaxValue)]);
        }

        public void Close() => _room[_at] = End;
    }
}
