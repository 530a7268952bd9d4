using System.Buffers;
using System.Buffers.Binary;
using Qkvm.Backends.Display.Encodings;

namespace Qkvm.Backends.Display;

/// <summary>A message to a viewer while it is made, big endian. It grows to what one update needs, which
/// <see cref="VncUpdate"/> bounds, and gives large memory back.</summary>
sealed class VncOutput : IBufferWriter<byte>
{
    const int Small = 64 * 1024;

    byte[] _bytes = new byte[1024];
    int _count;

    public int Count => _count;
    public ReadOnlySpan<byte> Pending => _bytes.AsSpan(0, _count);

    public void Byte(int value) => Take(1)[0] = (byte)value;
    public void Word(int value) => BinaryPrimitives.WriteUInt16BigEndian(Take(2), (ushort)value);
    public void Dword(int value) => BinaryPrimitives.WriteInt32BigEndian(Take(4), value);
    public void Bytes(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Take(bytes.Length));

    /// <summary>Its length, then its bytes.</summary>
    public void Text(ReadOnlySpan<byte> text)
    {
        Dword(text.Length);
        Bytes(text);
    }

    /// <summary>A rectangle's head. RFC 6143, section 7.6.1.</summary>
    public void Rectangle(ScreenArea area, int encoding)
    {
        Word(area.X);
        Word(area.Y);
        Word(area.Width);
        Word(area.Height);
        Dword(encoding);
    }

    /// <summary>The next bytes, to be filled in.</summary>
    public Span<byte> Take(int count)
    {
        if (_bytes.Length - _count < count) Grow(Math.Max(_bytes.Length * 2, _count + count));
        _count += count;
        return _bytes.AsSpan(_count - count, count);
    }

    /// <summary>Gives back the last bytes taken.</summary>
    public void Return(int count) => _count -= count;

    /// <summary>Writes over a byte at an offset from <see cref="Pending"/>'s start.</summary>
    public void PatchByte(int at, int value) => _bytes[at] = (byte)value;

    /// <summary>The same of two bytes.</summary>
    public void Patch(int at, int value) => BinaryPrimitives.WriteUInt16BigEndian(_bytes.AsSpan(at), (ushort)value);

    /// <summary>The same of four bytes.</summary>
    public void PatchDword(int at, int value) => BinaryPrimitives.WriteInt32BigEndian(_bytes.AsSpan(at), value);

    /// <summary>All has been handed over.</summary>
    public void Clear()
    {
        _count = 0;
        if (_bytes.Length <= Small) return;
        ArrayPool<byte>.Shared.Return(_bytes);
        _bytes = new byte[1024];
    }

    void IBufferWriter<byte>.Advance(int count) => _count += count;

    Span<byte> IBufferWriter<byte>.GetSpan(int sizeHint)
    {
        Take(Math.Max(sizeHint, 1));
        Return(Math.Max(sizeHint, 1));
        return _bytes.AsSpan(_count);
    }

    Memory<byte> IBufferWriter<byte>.GetMemory(int sizeHint) => throw new NotSupportedException();

    void Grow(int size)
    {
        byte[] larger = size > Small ? ArrayPool<byte>.Shared.Rent(size) : new byte[size];
        Pending.CopyTo(larger);
        if (_bytes.Length > Small) ArrayPool<byte>.Shared.Return(_bytes);
        _bytes = larger;
    }
}
