using System.IO.Compression;
using ICSharpCode.SharpZipLib;

namespace Qkvm.Storage.Drivers.Images;

/// <summary>The last few compressed pieces of an image that were unpacked, as guests read them in smaller
/// pieces.</summary>
sealed class UnpackedPieces
{
    const int Kept = 4;

    readonly Lock _lock = new();
    readonly (long Key, byte[]? Data)[] _recent = new (long, byte[]?)[Kept];
    int _next;

    /// <summary>A piece by whatever names it, unpacked unless it is here.</summary>
    public byte[] Get(long key, Func<byte[]> unpack)
    {
        lock (_lock)
            foreach ((long known, byte[]? data) in _recent)
                if (data != null && known == key) return data;
        byte[] made = unpack();
        lock (_lock)
        {
            _recent[_next] = (key, made);
            _next = (_next + 1) % Kept;
        }
        return made;
    }

    public void Clear()
    {
        lock (_lock) Array.Clear(_recent);
    }

    /// <summary>Exactly as many bytes as wanted of a zlib stream (RFC 1950); null where it has not so many. What it has
    /// beyond is never made.</summary>
    public static byte[]? Inflate(byte[] source, int length) => Inflate(source, length, static from =>
        new ZLibStream(from, CompressionMode.Decompress));

    /// <summary>The same of any compression.</summary>
    public static byte[]? Inflate(byte[] source, int length, Func<Stream, Stream> open)
    {
        var data = new byte[length];
        try
        {
            using Stream stream = open(new MemoryStream(source));
            stream.ReadExactly(data);
            return data;
        }
        // SharpZipLib reads some damaged streams from outside its tables.
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException or SharpZipBaseException
            or IndexOutOfRangeException) { return null; }
    }
}
