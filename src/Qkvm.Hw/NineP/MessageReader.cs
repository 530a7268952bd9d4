using System.Buffers.Binary;

namespace Qkvm.Hw.NineP;

/// <summary>Fields of a message, little endian, in order. What lies behind its end reads as zero, and
/// <see cref="IsCut"/> tells.</summary>
ref struct MessageReader(ReadOnlySpan<byte> bytes)
{
    ReadOnlySpan<byte> _left = bytes;

    public bool IsCut { get; private set; }

    public byte Byte() => Take(sizeof(byte)) is [var value] ? value : (byte)0;
    public ushort Word() => Take(sizeof(ushort)) is { Length: > 0 } b ? BinaryPrimitives.ReadUInt16LittleEndian(b)
        : (ushort)0;
    public uint Dword() => Take(sizeof(uint)) is { Length: > 0 } b ? BinaryPrimitives.ReadUInt32LittleEndian(b) : 0;
    public ulong Qword() => Take(sizeof(ulong)) is { Length: > 0 } b ? BinaryPrimitives.ReadUInt64LittleEndian(b) : 0;

    /// <summary>A text, without an end.</summary>
    public ReadOnlySpan<byte> Text() => Take(Word());

    public void Skip(int count) => Take(count);

    ReadOnlySpan<byte> Take(int count)
    {
        if (count > _left.Length)
        {
            _left = default;
            IsCut = true;
            return default;
        }
        ReadOnlySpan<byte> taken = _left[..count];
        _left = _left[count..];
        return taken;
    }
}
