using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>An ELF executable for the x86 as it wants to lie in memory. Spec: System V ABI, "Object files" and "Program
/// loading", and its supplements for i386 and AMD64.</summary>
public sealed class ElfImage
{
    /// <summary>A loadable segment: bytes, and zeros behind them up to <paramref name="Size"/>.</summary>
    public readonly record struct Segment(ulong Address, ReadOnlyMemory<byte> Bytes, ulong Size);

    const int Class = 4, Type = 16, Machine = 18;
    const byte Class64 = 2;
    const ushort Executable = 2, Intel386 = 3, Amd64 = 62;
    const uint LoadSegment = 1, NoteSegment = 4;
    const int MostSegments = 64;

    readonly List<Segment> _segments = [];
    readonly List<ReadOnlyMemory<byte>> _notes = [];

    ElfImage(ReadOnlyMemory<byte> file)
    {
        ReadOnlySpan<byte> bytes = file.Span;
        Is64Bit = bytes[Class] == Class64;
        if (bytes.Length < (Is64Bit ? 64 : 52)) throw new InvalidDataException("its ELF header is cut off");
        if (U16(bytes, Type) != Executable || U16(bytes, Machine) != (Is64Bit ? Amd64 : Intel386))
            throw new InvalidDataException("an ELF file that is no executable for the x86");
        Entry = Is64Bit ? U64(bytes, 24) : U32(bytes, 24);
        ulong table = Is64Bit ? U64(bytes, 32) : U32(bytes, 28);
        int size = U16(bytes, Is64Bit ? 54 : 42), count = U16(bytes, Is64Bit ? 56 : 44);
        if (size < (Is64Bit ? 56 : 32) || count > MostSegments || table > (ulong)bytes.Length
            || (ulong)(size * count) > (ulong)bytes.Length - table)
            throw new InvalidDataException("its program headers lie outside the file");
        for (int i = 0; i < count; i++) Take(file, bytes.Slice((int)table + i * size, size), i);
        if (_segments.Count == 0) throw new InvalidDataException("it has no loadable segments");
    }

    public bool Is64Bit { get; }
    public ulong Entry { get; }
    public IReadOnlyList<Segment> Segments => _segments;

    /// <summary>Behind the last byte in memory.</summary>
    public ulong End => _segments.Max(segment => segment.Address + segment.Size);

    public static bool HasMagic(ReadOnlySpan<byte> file) => file.Length > Machine + 2 && file[..4].SequenceEqual(
        "\u007fELF"u8);

    /// <exception cref="InvalidDataException">It is damaged, or for another processor.</exception>
    public static ElfImage Read(ReadOnlyMemory<byte> file) => new(file);

    /// <summary>The contents of a note, or null. Spec: System V ABI, "Note section".</summary>
    public ReadOnlyMemory<byte>? Note(string owner, uint type)
    {
        foreach (ReadOnlyMemory<byte> notes in _notes)
        {
            ReadOnlySpan<byte> bytes = notes.Span;
            for (int at = 0; bytes.Length - at >= 12;)
            {
                ulong nameSize = U32(bytes, at), size = U32(bytes, at + 4);
                uint found = U32(bytes, at + 8);
                ulong name = (ulong)at + 12, contents = name + Padded(nameSize), next = contents + Padded(size);
                if (contents + size > (ulong)bytes.Length) break;
                if (found == type && Encoding.ASCII.GetString(bytes.Slice((int)name, (int)nameSize)).TrimEnd('\0')
                    == owner) return notes.Slice((int)contents, (int)size);
                at = (int)Math.Min(next, (ulong)bytes.Length);
            }
        }
        return null;

        static ulong Padded(ulong length) => length + 3 & ~3UL;
    }

    void Take(ReadOnlyMemory<byte> file, ReadOnlySpan<byte> header, int index)
    {
        uint type = U32(header, 0);
        if (type is not (LoadSegment or NoteSegment)) return;
        ulong at = Is64Bit ? U64(header, 8) : U32(header, 4), length = Is64Bit ? U64(header, 32) : U32(header, 16);
        ulong address = Is64Bit ? U64(header, 24) : U32(header, 12), size = Is64Bit ? U64(header, 40) : U32(header, 20);
        if (at > (ulong)file.Length || length > (ulong)file.Length - at)
            throw new InvalidDataException($"its segment {index} lies outside the file");
        ReadOnlyMemory<byte> bytes = file.Slice((int)at, (int)length);
        if (type == NoteSegment) { _notes.Add(bytes); return; }
        if (length > size || address > uint.MaxValue || size > uint.MaxValue - address)
            throw new InvalidDataException($"its segment {index} lies beyond 4 GiB, or is larger in the file");
        if (size > 0) _segments.Add(new Segment(address, bytes, size));
    }

    static ushort U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);
    static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
    static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
