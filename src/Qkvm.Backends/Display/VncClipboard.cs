using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace Qkvm.Backends.Display;

/// <summary>Text that viewers have cut, in the forms that it has on the wire. Spec: RFC 6143, section 7.5.6; the
/// protocol's community version, "Extended Clipboard Pseudo-Encoding".</summary>
static class VncClipboard
{
    /// <summary>Bytes of one text; QEMU takes as many.</summary>
    public const int MaxBytes = 1 << 20;

    // Of the flags: the format that is known here, and what is to be done
    public const uint TextFormat = 1, Caps = 1 << 24, Request = 1 << 25, Peek = 1 << 26, Notify = 1 << 27,
        Provide = 1 << 28;

    /// <summary>In Latin-1, as the first form has it: characters beyond become question marks.</summary>
    public static byte[] ToLatin(string text) => Encoding.Latin1.GetBytes(text);

    public static string FromLatin(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    /// <summary>What stands behind the flags of a provide message: zlib of length and UTF-8, lines ended by CR and LF,
    /// with a zero at the end.</summary>
    public static byte[] Pack(string text)
    {
        byte[] bytes = [.. Encoding.UTF8.GetBytes(text.Replace("\n", "\r\n", StringComparison.Ordinal)), 0];
        Span<byte> length = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(length, bytes.Length);
        var packed = new MemoryStream();
        using (var zlib = new ZLibStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            zlib.Write(length);
            zlib.Write(bytes);
        }
        return packed.ToArray();
    }

    /// <summary>The same back; null for what is broken or longer than the bound, of which no more is
    /// unpacked.</summary>
    public static string? Unpack(ReadOnlySpan<byte> packed)
    {
        try
        {
            using var zlib = new ZLibStream(new MemoryStream(packed.ToArray()), CompressionMode.Decompress);
            Span<byte> head = stackalloc byte[4];
            zlib.ReadExactly(head);
            uint length = BinaryPrimitives.ReadUInt32BigEndian(head);
            if (length > MaxBytes) return null;
            var bytes = new byte[length];
            zlib.ReadExactly(bytes);
            return Encoding.UTF8.GetString(bytes).TrimEnd('\0').Replace("\r\n", "\n", StringComparison.Ordinal);
        }
        catch (Exception e) when (e is InvalidDataException or EndOfStreamException) { return null; }
    }
}
