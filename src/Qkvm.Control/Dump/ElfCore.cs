using System.Buffers.Binary;

namespace Qkvm.Control.Dump;

/// <summary>A dump as an ELF64 core file: PT_NOTE, then PT_LOAD for each mapping, then the notes and the memory.
/// System V ABI, chapters 4 and 5; Linux' extension for more than 65,534 program headers.</summary>
static class ElfCore
{
    const int HeaderBytes = 64, ProgramHeaderBytes = 56, SectionHeaderBytes = 64, Piece = 1 << 20;
    const ushort Core = 4, I386 = 3, X86_64 = 62, ManyHeaders = 0xFFFF;
    const uint Load = 1, Note = 4;

    /// <param name="written">Hears of each piece of memory, in bytes.</param>
    public static async Task WriteAsync(DumpSource source, IReadOnlyList<DumpMapping> mappings, byte[] notes,
        Stream output, Action<int> written)
    {
        await output.WriteAsync(Headers(source, mappings, notes.Length)).ConfigureAwait(false);
        await output.WriteAsync(notes).ConfigureAwait(false);
        var piece = new byte[Piece];
        foreach (DumpBlock block in source.Blocks)
            for (ulong at = 0; at < block.Length; at += Piece)
            {
                Memory<byte> now = piece.AsMemory(0, (int)Math.Min(Piece, block.Length - at));
                await source.ReadAsync(block, at, now).ConfigureAwait(false);
                await output.WriteAsync(now).ConfigureAwait(false);
                written(now.Length);
            }
    }

    static byte[] Headers(DumpSource source, IReadOnlyList<DumpMapping> mappings, int notesLength)
    {
        int count = mappings.Count + 1, table = HeaderBytes, at = 0;
        bool isMany = count >= ManyHeaders;                        // then the only section header has the number
        if (isMany) table += SectionHeaderBytes;
        var headers = new byte[table + count * ProgramHeaderBytes];
        Add([0x7F, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Add16(Core);
        Add16(source.Is64Bit ? X86_64 : I386);
        Add32(1);
        Add64(0);                                                  // no entry
        Add64((ulong)table);
        Add64(isMany ? HeaderBytes : 0UL);
        Add32(0);
        Add16(HeaderBytes);
        Add16(ProgramHeaderBytes);
        Add16(isMany ? ManyHeaders : (ushort)count);
        Add16(SectionHeaderBytes);
        Add16((ushort)(isMany ? 1 : 0));
        Add16(0);
        if (isMany) BinaryPrimitives.WriteInt32LittleEndian(headers.AsSpan(HeaderBytes + 44), count); // sh_info
        at = table;
        ulong notes = (ulong)headers.Length, memory = notes + (ulong)notesLength;
        ProgramHeader(Note, notes, 0, 0, (ulong)notesLength);
        foreach (DumpMapping mapping in mappings)
            ProgramHeader(Load, memory + mapping.Offset, mapping.Virtual, mapping.Physical, mapping.Length);
        return headers;

        void ProgramHeader(uint type, ulong offset, ulong address, ulong physical, ulong length)
        {
            Add32(type);
            Add32(0);                                              // flags
            Add64(offset);
            Add64(address);
            Add64(physical);
            Add64(length);
            Add64(length);
            Add64(0);                                              // alignment
        }

        void Add(ReadOnlySpan<byte> bytes) { bytes.CopyTo(headers.AsSpan(at)); at += bytes.Length; }
        void Add16(ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(headers.AsSpan((at += 2) - 2), value);
        void Add32(uint value) => BinaryPrimitives.WriteUInt32LittleEndian(headers.AsSpan((at += 4) - 4), value);
        void Add64(ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(headers.AsSpan((at += 8) - 8), value);
    }
}
