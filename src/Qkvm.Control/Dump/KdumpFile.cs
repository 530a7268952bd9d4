using System.Buffers.Binary;
using System.IO.Compression;

namespace Qkvm.Control.Dump;

/// <summary>A dump in the kdump-compressed format, version 6, pages compressed by zlib, in makedumpfile's flattened
/// form, which a pipe can take: each piece after its place in the file. makedumpfile's IMPLEMENTATION and
/// diskdump_mod.h.</summary>
/// <remarks>Pages that lie only partly in a block are left out.</remarks>
static class KdumpFile
{
    const int Page = 4096, HeaderBytes = 464, SubHeaderBytes = 104, DescriptorBytes = 24, FlatHeaderBytes = 4096,
        Pages = 256;
    const int Version = 6, CompressedByZlib = 1, WithoutZeroPages = 1;

    // struct disk_dump_header
    const int HeaderVersion = 8, Machine = 12 + 4 * 65, Status = 424, BlockSize = 428, SubHeaderBlocks = 432,
        BitmapBlocks = 436, MaxMap = 440, CpuCount = 460;

    // struct kdump_sub_header
    const int PhysicalBase = 0, DumpLevel = 8, CoreInfoOffset = 32, CoreInfoSize = 40, NoteOffset = 48, NoteSize = 56,
        MaxMap64 = 96;

    /// <param name="written">Hears of each piece of memory, in bytes.</param>
    public static async Task WriteAsync(DumpSource source, byte[] notes, Stream output, Action<int> written)
    {
        DumpBlock[] blocks = [.. source.Blocks.Select(Whole).Where(block => block.Length > 0)];
        ulong pages = blocks.Aggregate(0UL, static (sum, block) => sum + block.Length / Page);
        ulong maxMap = blocks.Length == 0 ? 0 : blocks[^1].End / Page;
        long subHeaderBlocks = Blocks(SubHeaderBytes + (ulong)notes.Length), bitmapBlocks = Blocks((maxMap + 7) / 8);
        long bitmaps = (1 + subHeaderBlocks) * Page, descriptors = bitmaps + 2 * bitmapBlocks * Page,
            data = descriptors + (long)pages * DescriptorBytes;

        await output.WriteAsync(FlatHeader()).ConfigureAwait(false);
        await Piece(0, Header(subHeaderBlocks, bitmapBlocks, maxMap, source.Registers.Count)).ConfigureAwait(false);
        await Piece(Page, SubHeader(notes.Length, maxMap, source.Note)).ConfigureAwait(false);
        await Piece(Page + SubHeaderBytes, notes).ConfigureAwait(false);
        for (long i = 0; i < bitmapBlocks; i++)
        {
            byte[] bitmap = Bitmap(blocks, (ulong)i * Page * 8);
            await Piece(bitmaps + i * Page, bitmap).ConfigureAwait(false);
            await Piece(bitmaps + (bitmapBlocks + i) * Page, bitmap).ConfigureAwait(false);
        }

        long zeroPage = data;                                      // all pages of zeros share one
        await Piece(data, new byte[Page]).ConfigureAwait(false);
        data += Page;
        var memory = new byte[Pages * Page];
        var described = new byte[Pages * DescriptorBytes];
        var packed = new MemoryStream();
        foreach (DumpBlock block in blocks)
            for (ulong at = 0; at < block.Length; at += (ulong)memory.Length)
            {
                Memory<byte> now = memory.AsMemory(0, (int)Math.Min((ulong)memory.Length, block.Length - at));
                await source.ReadAsync(block, at, now).ConfigureAwait(false);
                packed.SetLength(0);
                int count = now.Length / Page;
                for (int i = 0; i < count; i++)
                    Pack(now.Span.Slice(i * Page, Page), packed, data, zeroPage,
                        described.AsSpan(i * DescriptorBytes, DescriptorBytes));
                await Piece(descriptors, described.AsMemory(0, count * DescriptorBytes)).ConfigureAwait(false);
                if (packed.Length > 0)
                    await Piece(data, packed.GetBuffer().AsMemory(0, (int)packed.Length)).ConfigureAwait(false);
                descriptors += count * DescriptorBytes;
                data += packed.Length;
                written(now.Length);
            }
        await output.WriteAsync(PieceHeader(-1, -1)).ConfigureAwait(false);

        async ValueTask Piece(long place, ReadOnlyMemory<byte> bytes)
        {
            await output.WriteAsync(PieceHeader(place, bytes.Length)).ConfigureAwait(false);
            await output.WriteAsync(bytes).ConfigureAwait(false);
        }
    }

    static long Blocks(ulong bytes) => (long)((bytes + Page - 1) / Page);

    static DumpBlock Whole(DumpBlock block)
    {
        ulong skip = (ulong)-(long)block.Start & (Page - 1);
        return skip >= block.Length ? block with { Length = 0 }
            : block with { Start = block.Start + skip, Offset = block.Offset + skip,
                Length = (block.Length - skip) & ~(ulong)(Page - 1) };
    }

    /// <summary>One page of the bitmap of pages that there are, from this page number on.</summary>
    static byte[] Bitmap(DumpBlock[] blocks, ulong first)
    {
        var bits = new byte[Page];
        foreach (DumpBlock block in blocks)
        {
            ulong from = Math.Max(block.Start / Page, first), to = Math.Min(block.End / Page, first + Page * 8);
            for (ulong page = from; page < to; page++) bits[(page - first) / 8] |= (byte)(1 << (int)(page % 8));
        }
        return bits;
    }

    /// <summary>Adds a page to what is written and describes it: offset, bytes, flags, and flags of the page.</summary>
    static void Pack(ReadOnlySpan<byte> page, MemoryStream packed, long data, long zeroPage, Span<byte> described)
    {
        described.Clear();
        int size = Page, flags = 0;
        long start = packed.Length, place = data + start;
        if (!page.ContainsAnyExcept((byte)0)) place = zeroPage;
        else
        {
            using (var zlib = new ZLibStream(packed, CompressionLevel.Fastest, leaveOpen: true)) zlib.Write(page);
            (size, flags) = ((int)(packed.Length - start), CompressedByZlib);
            if (size >= Page)
            {
                packed.SetLength(start);
                packed.Write(page);
                (size, flags) = (Page, 0);
            }
        }
        BinaryPrimitives.WriteInt64LittleEndian(described, place);
        BinaryPrimitives.WriteInt32LittleEndian(described[8..], size);
        BinaryPrimitives.WriteInt32LittleEndian(described[12..], flags);
    }

    static byte[] Header(long subHeaderBlocks, long bitmapBlocks, ulong maxMap, int cpus)
    {
        var header = new byte[HeaderBytes];
        "KDUMP   "u8.CopyTo(header);
        "x86_64"u8.CopyTo(header.AsSpan(Machine));
        Set(HeaderVersion, Version);
        Set(Status, CompressedByZlib);
        Set(BlockSize, Page);
        Set(SubHeaderBlocks, (int)subHeaderBlocks);
        Set(BitmapBlocks, (int)(2 * bitmapBlocks));
        Set(MaxMap, (int)(uint)Math.Min(maxMap, uint.MaxValue));
        Set(CpuCount, cpus);
        return header;

        void Set(int at, int value) => BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(at), value);
    }

    /// <param name="note">The last of the notes.</param>
    static byte[] SubHeader(int notesLength, ulong maxMap, GuestNote note)
    {
        var header = new byte[SubHeaderBytes];
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(DumpLevel), WithoutZeroPages);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(NoteOffset), Page + SubHeaderBytes);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(NoteSize), notesLength);
        BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(MaxMap64), maxMap);
        if (note.Length == 0) return header;
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(PhysicalBase), note.KernelOffset);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(CoreInfoOffset),
            Page + SubHeaderBytes + notesLength - note.Bytes.Length + note.At);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(CoreInfoSize), note.Length);
        return header;
    }

    /// <summary>struct makedumpfile_header, big endian: signature, type 1, version 1.</summary>
    static byte[] FlatHeader()
    {
        var header = new byte[FlatHeaderBytes];
        "makedumpfile"u8.CopyTo(header);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(16), 1);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(24), 1);
        return header;
    }

    /// <summary>struct makedumpfile_data_header, big endian; -1 and -1 end the file.</summary>
    static byte[] PieceHeader(long place, long length)
    {
        var header = new byte[16];
        BinaryPrimitives.WriteInt64BigEndian(header, place);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(8), length);
        return header;
    }
}
