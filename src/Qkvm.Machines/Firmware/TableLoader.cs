using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Machines.Firmware;

public enum LoaderZone : byte { High = 1, FSegment = 2 }

/// <summary>The linker script "etc/table-loader": tells the firmware where files go in memory, which pointers between
/// them to fix and which checksums to compute. Spec: QEMU's ACPI linker/loader, as SeaBIOS's romfile_loader reads
/// it.</summary>
public sealed class TableLoader
{
    public const int CommandSize = 128, NameSize = 56;
    public const uint Allocate = 1, AddPointer = 2, AddChecksum = 3;

    readonly MemoryStream _commands = new();

    public byte[] ToArray() => _commands.ToArray();

    /// <summary>Loads a file into memory; before any other command that names it.</summary>
    public void AddAllocate(string file, uint alignment, LoaderZone zone)
    {
        Span<byte> command = stackalloc byte[CommandSize];
        Begin(command, Allocate, file);
        BinaryPrimitives.WriteUInt32LittleEndian(command[60..], alignment);
        command[64] = (byte)zone;
        _commands.Write(command);
    }

    /// <summary>Adds the address of <paramref name="source"/> to the number at an offset of
    /// <paramref name="file"/>.</summary>
    public void AddPointerTo(string source, string file, int offset, byte size)
    {
        Span<byte> command = stackalloc byte[CommandSize];
        Begin(command, AddPointer, file);
        Encoding.ASCII.GetBytes(source, command.Slice(60, NameSize - 1));
        BinaryPrimitives.WriteUInt32LittleEndian(command[116..], (uint)offset);
        command[120] = size;
        _commands.Write(command);
    }

    /// <summary>Stores at <paramref name="offset"/> what makes the bytes of the range add up to zero.</summary>
    public void AddChecksumOf(string file, int offset, int start, int length)
    {
        Span<byte> command = stackalloc byte[CommandSize];
        Begin(command, AddChecksum, file);
        BinaryPrimitives.WriteUInt32LittleEndian(command[60..], (uint)offset);
        BinaryPrimitives.WriteUInt32LittleEndian(command[64..], (uint)start);
        BinaryPrimitives.WriteUInt32LittleEndian(command[68..], (uint)length);
        _commands.Write(command);
    }

    static void Begin(Span<byte> command, uint kind, string file)
    {
        command.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(command, kind);
        Encoding.ASCII.GetBytes(file, command.Slice(4, NameSize - 1));
    }
}
