using System.Buffers.Binary;

namespace Qkvm.Core.Net;

/// <summary>What the extension headers of an IPv6 packet say of its flow. RFC 8200, section 4; RFC 6275.</summary>
/// <param name="Any">There are such headers.</param>
/// <param name="Transport">Offset of what follows them; 0: a fragment, or headers that are cut off.</param>
/// <param name="HomeAddress">Offset of the home address, which stands for the source; 0: none.</param>
/// <param name="FinalTarget">Offset of a type 2 routing header's address, which stands for the target; 0:
/// none.</param>
public readonly record struct Ip6Extensions(bool Any, int Transport, byte Protocol, int HomeAddress, int FinalTarget)
{
    const byte HopByHop = 0, Routing = 43, Fragment = 44, Authentication = 51, Destination = 60;
    const byte HomeAddressOption = 201;
    const int Unit = 8, AddressLength = 16, Header = 40, MostHeaders = 8;

    /// <param name="layout">Of the frame, which holds IPv6.</param>
    public static Ip6Extensions Of(ReadOnlySpan<byte> frame, in FrameLayout layout)
    {
        int at = layout.Network + Header, home = 0, final = 0;
        byte next = layout.Protocol;
        bool any = false;
        for (int i = 0; i <= MostHeaders; i++)
        {
            if (next is not (HopByHop or Routing or Fragment or Authentication or Destination))
                return new(any, at, next, home, final);
            any = true;
            if (at + Unit > layout.End) break;
            ReadOnlySpan<byte> header = frame[at..layout.End];
            int length = next switch
            {
                Fragment => Unit,
                Authentication => (header[1] + 2) * 4,
                _ => (header[1] + 1) * Unit,
            };
            if (length > header.Length) break;
            header = header[..length];
            if (next == Fragment && (BinaryPrimitives.ReadUInt16BigEndian(header[2..]) & ~6) != 0) break;
            if (next == Routing && header[2] == 2 && length >= Unit + AddressLength) final = at + Unit;
            if (next == Destination && FindHomeAddress(header) is > 0 and int found) home = at + found;
            (next, at) = (header[0], at + length);
        }
        return new(true, 0, next, home, final);
    }

    static int FindHomeAddress(ReadOnlySpan<byte> header)
    {
        for (int at = 2; at < header.Length;)
        {
            if (header[at] == 0) { at++; continue; }               // Pad1 has no length
            if (at + 2 > header.Length || at + 2 + header[at + 1] > header.Length) return 0;
            if (header[at] == HomeAddressOption && header[at + 1] == AddressLength) return at + 2;
            at += 2 + header[at + 1];
        }
        return 0;
    }
}
