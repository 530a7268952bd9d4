using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Where the guest's frames go. Headers are copied once before they are read: the guest may change them
/// meanwhile.</summary>
sealed partial class UserStack
{
    /// <summary>Frames that were no use: short, broken, for nobody.</summary>
    public long Ignored { get; private set; }

    void Input(bool isChecked, in ScatterList frame)
    {
        if (frame.Length is < FrameWriter.EthernetLength or > LargestFrame) { Ignored++; return; }
        int length = (int)frame.Length - FrameWriter.EthernetLength;
        int headLength = (int)Math.Min(frame.Length, HeadLength);
        frame.Slice(0, headLength).CopyTo(_head);
        ReadOnlySpan<byte> head = _head.AsSpan(FrameWriter.EthernetLength, headLength - FrameWriter.EthernetLength);
        MacAddress from = MacAddress.Read(_head.AsSpan(MacAddress.Length));
        var type = (EtherType)BinaryPrimitives.ReadUInt16BigEndian(_head.AsSpan(12));
        switch (type)
        {
            case EtherType.Arp when Options.Ipv4: Neighbours.Input(head); return;
            case EtherType.Ip4 when Options.Ipv4:
            case EtherType.Ip6 when Options.Ipv6: break;
            default: Ignored++; return;
        }
        if (!IpPacket.TryParse(head, length, out IpPacket packet) || packet.Source.IsV4 != (type == EtherType.Ip4)
            || packet.Source.IsMulticast || packet.Source.IsLoopback) { Ignored++; return; }
        if (!packet.Source.IsUnspecified) Neighbours.Learn(packet.Source, from);
        ScatterList payload = frame.Slice(FrameWriter.EthernetLength + packet.HeaderLength, packet.PayloadLength);
        if (packet.IsFragment)
        {
            payload.CopyTo(_whole);
            Fragments.Input(packet, _whole.AsSpan(0, packet.PayloadLength), from);
        }
        else if (packet.Protocol == IpProtocol.Tcp && !packet.Source.IsUnspecified)
            Tcp.Input(packet, head.Slice(packet.HeaderLength), payload, from, isChecked);
        else
        {
            payload.CopyTo(_whole);
            Input(packet, _whole.AsSpan(0, packet.PayloadLength), from, isChecked);
        }
    }

    /// <summary>A whole packet of anything but TCP, which nobody cuts into fragments.</summary>
    public void Input(in IpPacket packet, ReadOnlySpan<byte> payload, MacAddress from, bool isChecked)
    {
        switch (packet.Protocol)
        {
            case IpProtocol.Udp: Udp.Input(packet, payload, from, isChecked); break;
            case IpProtocol.Icmp when packet.Source.IsV4: Icmp.Input(packet, payload, from); break;
            case IpProtocol.Icmp6 when !packet.Source.IsV4: Icmp.Input6(packet, payload, from); break;
            default: Ignored++; break;
        }
    }
}
