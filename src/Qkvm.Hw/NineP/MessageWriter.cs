using System.Buffers.Binary;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Fields of an answer, little endian, in order. What has no room is left out, and <see cref="IsFull"/>
/// tells.</summary>
ref struct MessageWriter(Span<byte> bytes)
{
    readonly Span<byte> _bytes = bytes;

    public int Length { get; private set; }
    public bool IsFull { get; private set; }

    public bool HasRoom(int count) => !IsFull && count <= _bytes.Length - Length;

    public void Byte(byte value) => Room(sizeof(byte)).Fill(value);

    public void Word(ushort value)
    {
        Span<byte> room = Room(sizeof(ushort));
        if (!room.IsEmpty) BinaryPrimitives.WriteUInt16LittleEndian(room, value);
    }

    public void Dword(uint value)
    {
        Span<byte> room = Room(sizeof(uint));
        if (!room.IsEmpty) BinaryPrimitives.WriteUInt32LittleEndian(room, value);
    }

    public void Qword(ulong value)
    {
        Span<byte> room = Room(sizeof(ulong));
        if (!room.IsEmpty) BinaryPrimitives.WriteUInt64LittleEndian(room, value);
    }

    public void Text(scoped ReadOnlySpan<byte> text)
    {
        Word((ushort)text.Length);
        Span<byte> room = Room(text.Length);
        if (!room.IsEmpty) text.CopyTo(room);
    }

    public void Time(Timespec time)
    {
        Qword((ulong)time.Seconds);
        Qword((ulong)time.Nanoseconds);
    }

    public void Identity(in Qid qid)
    {
        Byte(qid.Type);
        Dword(qid.Version);
        Qword(qid.Path);
    }

    Span<byte> Room(int count)
    {
        if (IsFull || count > _bytes.Length - Length)
        {
            IsFull = true;
            return default;
        }
        Length += count;
        return _bytes.Slice(Length - count, count);
    }
}

/// <summary>What names a file, and whether it has changed.</summary>
readonly record struct Qid(byte Type, uint Version, ulong Path)
{
    public const int Length = 13;
    const byte Folder = 0x80, Link = 0x02;

    public Qid(in FileStatus status, ulong path) : this(status.IsDirectory ? Folder : status.IsLink ? Link : (byte)0,
        (uint)(status.Modified.Seconds ^ status.Size << 8), path) { }

    /// <summary>Of a folder's entry, by the type that it says: DT_DIR, DT_LNK.</summary>
    public static byte TypeOf(byte entry) => entry switch { 4 => Folder, 10 => Link, _ => 0 };
}
