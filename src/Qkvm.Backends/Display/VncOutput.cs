using System.Buffers.Binary;

namespace Qkvm.Backends.Display;

/// <summary>A message to a viewer while it is made, big endian. It grows to what one update needs, which
/// <see cref="VncClient"/> bounds.</summary>
sealed class VncOutput
{
    const int Small = 64 * 1024;

    byte[] _bytes = new byte[4096];
    int _count;

    public int Count => _count;
    public ReadOnlySpan<byte> Pending => _bytes.AsSpan(0, _count);

    public void Byte(int value) => Take(1)[0] = (byte)value;
    public void Word(int value) => BinaryPrimitives.WriteUInt16BigEndian(Take(2), (ushort)value);
    public void Dword(int value) => BinaryPrimitives.WriteInt32BigEndian(Take(4), value);
    public void Bytes(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Take(bytes.Length));

    /// <summary>The next bytes, to be filled in.</summary>
    public Span<byte> Take(int count)
    {
        if (_bytes.Length - _count < count) Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, _count + count));
        _count += count;
        return _bytes.AsSpan(_count - count, count);
    }

    /// <summary>Gives back the last bytes taken.</summary>
    public void Return(int count) => _count -= count;

    /// <summary>Writes over a word at an offset from <see cref="Pending"/>'s start.</summary>
    public void Patch(int at, int value) => BinaryPrimitives.WriteUInt16BigEndian(_bytes.AsSpan(at), (ushort)value);

    /// <summary>All has been handed over.</summary>
    public void Clear()
    {
        _count = 0;
        if (_bytes.Length > Small) _bytes = new byte[Small];
    }
}
