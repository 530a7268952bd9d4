using System.Buffers.Binary;
using System.IO.Compression;
using ZstdSharp;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>Unpacks what a bzImage carries: the kernel itself, which its own code would unpack otherwise. Spec: Linux,
/// Documentation/x86/boot.rst, the fields payload_offset and payload_length.</summary>
/// <remarks>Of the packers that Linux knows, gzip, LZ4 and Zstandard are known here; what others have packed the kernel
/// unpacks by itself.</remarks>
public static class KernelPayload
{
    const int PayloadOffset = 0x248, PayloadLength = 0x24C, SizeLength = 4;
    const ushort GzipMagic = 0x8B1F;
    const uint ZstdMagic = 0xFD2FB528;

    /// <summary>Null where it is packed in another way, damaged, or larger than <paramref name="limit"/>.</summary>
    /// <param name="kernel">The file, whose header has a payload.</param>
    /// <param name="setupSize">Of its real-mode part.</param>
    public static byte[]? Unpack(byte[] kernel, int setupSize, ulong limit)
    {
        ulong at = BinaryPrimitives.ReadUInt32LittleEndian(kernel.AsSpan(PayloadOffset)) + (ulong)setupSize;
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(kernel.AsSpan(PayloadLength));
        if (length <= 2 * SizeLength || at + length > (ulong)kernel.Length) return null;
        var payload = new ArraySegment<byte>(kernel, (int)at, (int)length);
        // the last four bytes are the size: gzip's own, or added behind the others' data
        ArraySegment<byte> packed = payload[..^SizeLength];
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(payload.AsSpan()[^SizeLength..]);
        if (size == 0 || size > limit || size > int.MaxValue) return null;
        uint magic = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        bool isGzip = (ushort)magic == GzipMagic;
        if (!isGzip && magic is not (Lz4Legacy.Magic or ZstdMagic)) return null;
        byte[] output = GC.AllocateUninitializedArray<byte>((int)size);
        try
        {
            if (isGzip) ReadAll(new GZipStream(Open(payload), CompressionMode.Decompress), output);
            else if (magic == ZstdMagic) ReadAll(new DecompressionStream(Open(packed)), output);
            else Lz4Legacy.Decode(packed, output);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or ZstdException or AggregateException)
        {
            return null;
        }
        return output;
    }

    static MemoryStream Open(ArraySegment<byte> data) => new(data.Array!, data.Offset, data.Count, writable: false);

    static void ReadAll(Stream stream, byte[] output)
    {
        using (stream) stream.ReadExactly(output);
    }
}
