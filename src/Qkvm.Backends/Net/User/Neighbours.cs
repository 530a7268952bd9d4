using System.Buffers.Binary;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>The guest's Ethernet addresses, and ours. ARP: RFC 826.</summary>
sealed class Neighbours(UserStack stack)
{
    const int ArpLength = 28, MaxKnown = 256;
    const ushort Request = 1, Reply = 2;

    readonly Dictionary<IpAddress, MacAddress> _known = [];
    IpAddress _asked;
    long _askedAt = -1;

    /// <summary>An address in the guest's network was heard at an Ethernet address.</summary>
    public void Learn(IpAddress address, MacAddress mac)
    {
        if (_known.TryGetValue(address, out MacAddress known) && known == mac) return;
        if (mac.IsGroup || mac == default || stack.Routes.IsOurs(address) || !stack.Routes.IsInside(address)) return;
        if (_known.Count >= MaxKnown) _known.Clear();              // a guest that makes up addresses
        _known[address] = mac;
        stack.Tcp.Resolved(address);
    }

    /// <summary>False: the guest has not been heard there; it is asked.</summary>
    public bool TryFind(IpAddress address, out MacAddress mac)
    {
        const int askAgain = 500;                                  // milliseconds
        if (_known.TryGetValue(address, out mac)) return true;
        if (address == _asked && _askedAt >= 0 && stack.Now - _askedAt < askAgain) return false;
        (_asked, _askedAt) = (address, stack.Now);
        if (address.IsV4) AskArp(address);
        else stack.Discovery.Solicit(address);
        return false;
    }

    /// <summary>An ARP packet from the guest: of Ethernet and IPv4, or nothing.</summary>
    public void Input(ReadOnlySpan<byte> arp)
    {
        const ulong ethernetAndIp4 = 0x0001_0800_0604;
        if (arp.Length < ArpLength || BinaryPrimitives.ReadUInt64BigEndian(arp) >> 16 != ethernetAndIp4) return;
        MacAddress sender = MacAddress.Read(arp[8..]);
        IpAddress from = IpAddress.Read(arp.Slice(14, 4)), target = IpAddress.Read(arp.Slice(24, 4));
        if (!from.IsUnspecified) Learn(from, sender);
        ushort operation = BinaryPrimitives.ReadUInt16BigEndian(arp[6..]);
        if (operation == Request && stack.IsOurs4(target)) Write(Reply, target, sender, from, sender);
    }

    void AskArp(IpAddress address) => Write(Request, stack.Options.Host, MacAddress.Broadcast, address, default);

    void Write(ushort operation, IpAddress source, MacAddress to, IpAddress target, MacAddress targetMac)
    {
        Span<byte> frame = stackalloc byte[FrameWriter.EthernetLength + ArpLength];
        MacAddress mac = UserStack.MacOf(source);
        FrameWriter.Ethernet(frame, to, mac, EtherType.Arp);
        Span<byte> arp = frame[FrameWriter.EthernetLength..];
        BinaryPrimitives.WriteUInt64BigEndian(arp, 0x0001_0800_0604_0000ul | operation);
        mac.Write(arp[8..]);
        source.Write(arp[14..]);
        targetMac.Write(arp[18..]);
        target.Write(arp[24..]);
        stack.Wire.Send(frame);
    }
}
