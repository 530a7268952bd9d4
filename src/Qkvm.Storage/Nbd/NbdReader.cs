using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Nbd;

/// <summary>Reads what the other end has put together: what is not there reads as nothing, and is remembered.</summary>
ref struct NbdReader(ReadOnlySpan<byte> data)
{
    ReadOnlySpan<byte> _data = data;

    /// <summary>All that was read was there, and texts had no more than <see cref="NbdProtocol.MaxString"/>
    /// bytes.</summary>
    public bool IsGood { get; private set; } = true;

    /// <summary>Bytes that have not been read.</summary>
    public readonly int Left => _data.Length;

    public int Number16() => Take(2) is { Length: 2 } number ? BinaryPrimitives.ReadUInt16BigEndian(number) : 0;

    /// <summary>A number that counts what follows: one of more than the data is wrong.</summary>
    public int Number32()
    {
        uint number = Take(4) is { Length: 4 } bytes ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : 0;
        if (number <= int.MaxValue) return (int)number;
        IsGood = false;
        return 0;
    }

    public uint Bits32() => Take(4) is { Length: 4 } bytes ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : 0;

    public ulong Bits64() => Take(8) is { Length: 8 } bytes ? BinaryPrimitives.ReadUInt64BigEndian(bytes) : 0;

    /// <summary>A text behind its length in 32 bits.</summary>
    public string Text()
    {
        int length = Number32();
        if (length <= NbdProtocol.MaxString) return Encoding.UTF8.GetString(Take(length));
        IsGood = false;
        return "";
    }

    /// <summary>All that is left, as a text.</summary>
    public string Rest() => Encoding.UTF8.GetString(Take(_data.Length));

    ReadOnlySpan<byte> Take(int count)
    {
        if (count > _data.Length)
        {
            IsGood = false;
            return default;
        }
        ReadOnlySpan<byte> taken = _data[..count];
        _data = _data[count..];
        return taken;
    }
}
