using System.Buffers.Binary;

namespace Qkvm.Backends.Display;

/// <summary>Bytes on their way to a viewer, big endian. It grows to what one update needs, which <see cref="VncClient"/>
/// bounds; nothing is added while the last update is still under way.</summary>
sealed class VncOutput
{
    const int Small = 64 * 1024;

    byte[] _bytes = new byte[4096];
    int _start, _end;

    public int Count => _end - _start;
    public ReadOnlySpan<byte> Pending => _bytes.AsSpan(_start, Count);

    public void Byte(int value) => Take(1)[0] = (byte)value;
    public void Word(int value) => BinaryPrimitives.WriteUInt16BigEndian(Take(2), (ushort)value);
    public void Dword(int value) => BinaryPrimitives.WriteInt32BigEndian(Take(4), value);
    public void Bytes(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Take(bytes.Length));

    /// <summary>The next bytes, to be filled in.</summary>
    public Span<byte> Take(int count)
    {
        if (_bytes.Length - _end < count) Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, _end + count));
        _end += count;
        return _bytes.AsSpan(_end - count, count);
    }

    /// <summary>Gives back the last bytes taken.</summary>
    public void Return(int count) => _end -= count;

    /// <summary>Writes over a word at an offset from <see cref="Pending"/>'s start.</summary>
    public void Patch(int at, int value) => BinaryPrimitives.WriteUInt16BigEndian(_bytes.AsSpan(_start + at), (ushort)value);

    public void Sent(int count)
    {
        _start += count;
        if (_start < _end) return;
        _start = _end = 0;
        if (_bytes.Length > Small) _bytes = new byte[Small];
    }
}
