using System.Buffers.Binary;
using System.Text;
using ICSharpCode.SharpZipLib.BZip2;
using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Dmg;

/// <summary>Format <c>dmg</c>: Apple's disk images, read: plain, zero, zlib and bzip2 chunks.</summary>
/// <remarks>Deviations: images with chunks of LZFSE, LZMA or ADC are refused.</remarks>
public sealed class DmgDriver : ImageNode
{
    public static readonly BlockDriverModel Model = new("dmg", [Property.Node("file", "the image")],
        static (_, parts) => Open(parts.File, ReadOnlyOptions(parts))) { Description = "Apple's images; read-only" };

    const int TrailerSize = 512, SearchSize = 2048, MaxTables = 16 << 20;

    // the trailer, "koly"
    const int DataForkAt = 0x18, ResourcesAt = 0x28, ListAt = 0xD8, SectorsAt = 0x1EC;

    readonly UnpackedPieces _unpacked = new();
    List<DmgChunk> _chunks = [];
    long _length;

    DmgDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static DmgDriver Open(BlockDriver file, NodeOptions options) => Opened(new DmgDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => _length;

    protected override void Load()
    {
        int searched = (int)Math.Min(SearchSize, File.Length);
        byte[] end = ReadFile(File.Length - searched, searched);
        int at = end.AsSpan().LastIndexOf("koly"u8);
        if (at < 0 || at > end.Length - TrailerSize) throw Bad("Image not in DMG format");
        byte[] trailer = end[at..(at + TrailerSize)];
        long limit = File.Length - searched + at, dataFork = Place(U64(DataForkAt), 0);
        IEnumerable<byte[]> blocks = U64(ResourcesAt + 8) != 0
            ? DmgChunks.InResourceFork(Table(ResourcesAt))
            : U64(ListAt + 8) != 0 ? DmgChunks.InPropertyList(Encoding.UTF8.GetString(Table(ListAt)))
                : throw Bad("it has no table of its chunks");
        foreach (byte[] block in blocks)
            if (DmgChunks.Add(_chunks, block, dataFork) is { } wrong) throw Bad(wrong);
        _chunks = [.. _chunks.OrderBy(chunk => chunk.Start)];
        foreach (DmgChunk chunk in _chunks)
        {
            if (chunk.Start < _length) throw Bad("two chunks hold the same sectors");
            _length = chunk.Start + chunk.Length;
        }

        ulong U64(int offset) => BinaryPrimitives.ReadUInt64BigEndian(trailer.AsSpan(offset));
        byte[] Table(int offset)
        {
            ulong bytes = U64(offset + 8);
            if (bytes > MaxTables) throw Bad($"a table of {bytes} bytes is larger than {MaxTables}");
            return ReadFile(Place(U64(offset), bytes), (int)bytes);
        }
        long Place(ulong offset, ulong bytes) => offset <= (ulong)limit && bytes <= (ulong)limit - offset ? (long)offset
            : throw Bad($"{bytes} bytes at 0x{offset:x} lie behind its end");
    }

    private protected override ImageRun Find(long offset, long length)
    {
        int index = IndexOf(offset);
        if (index < 0 || offset >= _chunks[index].Start + _chunks[index].Length) // between chunks
        {
            long next = index + 1 < _chunks.Count ? _chunks[index + 1].Start : _length;
            return new(RunKind.Zero, Math.Min(length, next - offset));
        }
        DmgChunk chunk = _chunks[index];
        long found = Math.Min(length, chunk.Start + chunk.Length - offset);
        return chunk.Coding switch
        {
            DmgCoding.Raw => new(RunKind.Data, found, chunk.Host + offset - chunk.Start),
            DmgCoding.Zlib or DmgCoding.Bzip2 => new(RunKind.Packed, found),
            _ => new(RunKind.Zero, found),
        };
    }

    /// <summary>The last chunk that begins at or before an offset; -1 for none.</summary>
    int IndexOf(long offset)
    {
        int low = 0, high = _chunks.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_chunks[middle].Start <= offset) low = middle + 1;
            else high = middle;
        }
        return low - 1;
    }

    private protected override ValueTask ReadPackedAsync(long offset, ScatterList buffers)
    {
        DmgChunk chunk = _chunks[IndexOf(offset)];
        byte[] data = _unpacked.Get(chunk.Host, () => chunk.Host > File.Length - chunk.HostLength ? throw Damaged(chunk)
            : Unpack(chunk, ReadFile(chunk.Host, (int)chunk.HostLength)) ?? throw Damaged(chunk));
        buffers.CopyFrom(data.AsSpan((int)(offset - chunk.Start), (int)buffers.Length));
        return default;
    }

    static byte[]? Unpack(DmgChunk chunk, byte[] packed) => chunk.Coding == DmgCoding.Zlib
        ? UnpackedPieces.Inflate(packed, (int)chunk.Length)
        : UnpackedPieces.Inflate(packed, (int)chunk.Length, static from => new BZip2InputStream(from));

    BlockException Damaged(DmgChunk chunk) =>
        new($"{FileName}: the compressed chunk at 0x{chunk.Host:x} is damaged", Errno.Io);
}
