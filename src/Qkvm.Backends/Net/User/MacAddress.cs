using System.Buffers.Binary;

namespace Qkvm.Backends.Net.User;

/// <summary>An Ethernet address as a value of 48 bits.</summary>
readonly record struct MacAddress(ulong Bits)
{
    public const int Length = 6;

    public static readonly MacAddress Broadcast = new(0xFFFF_FFFF_FFFF);

    public bool IsGroup => (Bits >> 40 & 1) != 0;

    public static MacAddress Read(ReadOnlySpan<byte> bytes) => new((ulong)BinaryPrimitives.ReadUInt16BigEndian(bytes)
        << 32 | BinaryPrimitives.ReadUInt32BigEndian(bytes[2..]));

    public void Write(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt16BigEndian(target, (ushort)(Bits >> 32));
        BinaryPrimitives.WriteUInt32BigEndian(target[2..], (uint)Bits);
    }
}
