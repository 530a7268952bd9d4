using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Storage.Drivers.Dmg;

enum DmgCoding { Zero, Raw, Zlib, Bzip2 }

/// <summary>Sectors of the disk that lie together, coded in one way.</summary>
/// <param name="Start">First byte of the disk; <paramref name="Length"/> bytes of it.</param>
/// <param name="Host">Where its <paramref name="HostLength"/> bytes lie in the file.</param>
readonly record struct DmgChunk(DmgCoding Coding, long Start, long Length, long Host, long HostLength);

/// <summary>Reads tables of chunks: "mish" blocks, in a property list or in a resource fork. The format is Apple's and
/// not published; the names are those of its headers (UDIF).</summary>
static class DmgChunks
{
    const int HeaderSize = 204, EntrySize = 40, CountAt = 200, FirstSectorAt = 8, DataOffsetAt = 24, SectorSize = 512;
    const uint Zero = 0, Raw = 1, Ignore = 2, Adc = 0x8000_0004, Zlib = 0x8000_0005, Bzip2 = 0x8000_0006,
        Lzfse = 0x8000_0007, Lzma = 0x8000_0008, Comment = 0x7FFF_FFFE, Terminator = 0xFFFF_FFFF;

    /// <summary>Bytes of a packed chunk, and of what it unpacks to.</summary>
    public const long MaxPacked = 64 << 20;

    /// <summary>What stands in the property list: base64 between data marks.</summary>
    public static IEnumerable<byte[]> InPropertyList(string text)
    {
        const string start = "<data>", end = "</data>";
        for (int at = 0; (at = text.IndexOf(start, at, StringComparison.Ordinal)) >= 0;)
        {
            at += start.Length;
            int stop = text.IndexOf(end, at, StringComparison.Ordinal);
            if (stop < 0) yield break;
            var block = new byte[(stop - at) / 4 * 3 + 3];
            if (Convert.TryFromBase64Chars(text.AsSpan(at, stop - at), block, out int bytes))
                yield return block[..bytes];
            at = stop;
        }
    }

    /// <summary>What stands in a resource fork: pieces, each behind its length.</summary>
    public static IEnumerable<byte[]> InResourceFork(byte[] fork)
    {
        if (fork.Length < 16) yield break;
        uint at = BinaryPrimitives.ReadUInt32BigEndian(fork);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(fork.AsSpan(8));
        for (long end = Math.Min(fork.Length, (long)at + length); at + 4L <= end;)
        {
            uint bytes = BinaryPrimitives.ReadUInt32BigEndian(fork.AsSpan((int)at));
            if (bytes == 0 || bytes > end - at - 4) yield break;
            yield return fork[((int)at + 4)..(int)(at + 4 + bytes)];
            at += 4 + bytes;
        }
    }

    /// <summary>Chunks of a block; what is wrong, or null.</summary>
    /// <param name="dataFork">Where the image's data begin.</param>
    public static string? Add(List<DmgChunk> chunks, byte[] block, long dataFork)
    {
        if (block.Length < HeaderSize || !block.AsSpan().StartsWith("mish"u8)) return null; // another resource
        uint count = BinaryPrimitives.ReadUInt32BigEndian(block.AsSpan(CountAt));
        if (count > (block.Length - HeaderSize) / EntrySize) count = (uint)(block.Length - HeaderSize) / EntrySize;
        ulong first = U64(block, FirstSectorAt), data = U64(block, DataOffsetAt);
        for (int i = 0; i < count; i++)
        {
            int at = HeaderSize + i * EntrySize;
            uint type = BinaryPrimitives.ReadUInt32BigEndian(block.AsSpan(at));
            if (type is Comment or Terminator) continue;
            const ulong mostSectors = 1UL << 50;
            ulong sector = U64(block, at + 8), sectors = U64(block, at + 16), offset = U64(block, at + 24),
                bytes = U64(block, at + 32);
            if (CodingOf(type) is not { } coding)
                return $"chunks of type 0x{type:x}{NameOf(type)} are not supported; on a Mac make others by hdiutil "
                    + "convert -format UDZO";
            if (sectors == 0) continue;
            if (first > mostSectors || sector > mostSectors || sectors > mostSectors || offset > 1UL << 60
                || data > 1UL << 60 || bytes > 1UL << 60) return "a chunk lies at an impossible place";
            if (coding is DmgCoding.Zlib or DmgCoding.Bzip2 && (sectors * SectorSize > MaxPacked || bytes > MaxPacked))
                return $"a chunk of {sectors} sectors in {bytes} bytes is larger than {MaxPacked} bytes";
            if (type == Raw && bytes < sectors * SectorSize) return "a chunk holds less than its sectors";
            chunks.Add(new DmgChunk(coding, (long)(first + sector) * SectorSize, (long)sectors * SectorSize,
                dataFork + (long)(data + offset), (long)bytes));
        }
        return null;
    }

    static DmgCoding? CodingOf(uint type) => type switch
    {
        Zero or Ignore => DmgCoding.Zero,
        Raw => DmgCoding.Raw,
        Zlib => DmgCoding.Zlib,
        Bzip2 => DmgCoding.Bzip2,
        _ => null,
    };

    static string NameOf(uint type) => type switch
    {
        Adc => " (ADC)",
        Lzfse => " (LZFSE)",
        Lzma => " (LZMA)",
        _ => "",
    };

    static ulong U64(byte[] data, int at) => BinaryPrimitives.ReadUInt64BigEndian(data.AsSpan(at));
}
