using System.Buffers.Binary;
using Qkvm.Hw.Virtio;
using static Qkvm.Hw.Net.E1000Registers;

namespace Qkvm.Hw.Net;

/// <summary>Which frames a card takes. Intel 317453, section 3.2.1, "Packet Address Filtering", and 9.3, "VLAN Packet
/// Filtering".</summary>
static class E1000Filter
{
    const int Type = 12, Tag = 14;

    /// <param name="frame">At least 16 bytes.</param>
    public static bool Passes(RegisterFile registers, ReadOnlySpan<byte> frame) =>
        PassesVlan(registers, frame) && PassesAddress(registers, frame[..MacAddress.Length]);

    /// <summary>The frame begins with a tag that the card is to know.</summary>
    public static bool IsTagged(RegisterFile registers, ReadOnlySpan<byte> frame) =>
        BinaryPrimitives.ReadUInt16BigEndian(frame[Type..]) == (ushort)registers[VET];

    static bool PassesVlan(RegisterFile registers, ReadOnlySpan<byte> frame)
    {
        uint control = registers[RCTL];
        if ((control & VlanFilter) == 0 || !IsTagged(registers, frame)) return true;
        ushort tag = BinaryPrimitives.ReadUInt16BigEndian(frame[Tag..]);
        if ((control & CfiFilter) != 0 && (tag >> 12 & 1) != ((control & Cfi) != 0 ? 1 : 0)) return false;
        int id = tag & 0xFFF;
        return (registers[VFTA + id / 32 * 4] & 1u << (id % 32)) != 0;
    }

    static bool PassesAddress(RegisterFile registers, ReadOnlySpan<byte> target)
    {
        uint control = registers[RCTL];
        if ((target[0] & 1) == 0)
        {
            if ((control & UnicastPromiscuous) != 0) return true;
        }
        else if ((control & MulticastPromiscuous) != 0) return true;
        else if ((control & AcceptBroadcast) != 0 && target.IndexOfAnyExcept((byte)0xFF) < 0) return true;
        uint low = BinaryPrimitives.ReadUInt32LittleEndian(target);
        ushort high = BinaryPrimitives.ReadUInt16LittleEndian(target[4..]);
        for (int at = RAL; at < RAL + Addresses * 8; at += 8)
        {
            uint upper = registers[at + 4];
            if (registers[at] == low && (ushort)upper == high && (upper & AddressValid) != 0) return true;
        }
        if ((target[0] & 1) == 0) return false;
        int shift = (control >> MulticastOffset & 3) switch { 0 => 4, 1 => 3, 2 => 2, _ => 0 };
        int hash = high >> shift & 0xFFF;
        return (registers[MTA + hash / 32 * 4] & 1u << (hash % 32)) != 0;
    }
}
