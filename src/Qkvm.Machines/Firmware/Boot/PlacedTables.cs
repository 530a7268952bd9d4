using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>Does what firmware does with ACPI's loader script, where there is none: places the files one behind the
/// other, fixes the pointers between them, computes checksums.</summary>
public sealed class PlacedTables
{
    const int FileAt = 4;                                          // in every command, behind its kind

    readonly Dictionary<string, (ulong Address, byte[] Bytes)> _placed = [];

    /// <param name="address">Where the first file goes.</param>
    /// <param name="end">Behind the last byte that there is.</param>
    /// <exception cref="ConfigurationException">They do not fit.</exception>
    public PlacedTables(AcpiTables.Files files, ulong address, ulong end)
    {
        for (int at = 0; at < files.Loader.Length; at += TableLoader.CommandSize)
        {
            ReadOnlySpan<byte> command = files.Loader.AsSpan(at, TableLoader.CommandSize);
            string file = NameAt(command, FileAt);
            switch (U32(command, 0))
            {
                case TableLoader.Allocate:
                    byte[] contents = file == AcpiTables.RsdpFile ? files.Rsdp
                        : file == AcpiTables.TablesFile ? files.Tables : [];
                    ulong alignment = U32(command, 60);
                    address = (address + alignment - 1) / alignment * alignment;
                    _placed[file] = (address, contents.ToArray());
                    address += (ulong)contents.Length;
                    break;
                case TableLoader.AddPointer: Point(command, file); break;
                case TableLoader.AddChecksum: Sum(command, file); break;
            }
        }
        if (address > end) throw new ConfigurationException($"-smp: the ACPI tables of so many processors do not fit "
            + "below 1 MiB; give -bios FILE, or fewer");
    }

    public ulong Rsdp => _placed[AcpiTables.RsdpFile].Address;

    public IEnumerable<ElfImage.Segment> Parts =>
        _placed.Values.Where(file => file.Bytes.Length > 0).Select(file => BootImage.Part(file.Address, file.Bytes));

    void Point(ReadOnlySpan<byte> command, string file)
    {
        Span<byte> field = _placed[file].Bytes.AsSpan((int)U32(command, 116));
        ulong target = _placed[NameAt(command, 60)].Address;
        if (command[120] == sizeof(ulong))
            BinaryPrimitives.WriteUInt64LittleEndian(field, BinaryPrimitives.ReadUInt64LittleEndian(field) + target);
        else
            BinaryPrimitives.WriteUInt32LittleEndian(field, U32(field, 0) + (uint)target);
    }

    void Sum(ReadOnlySpan<byte> command, string file)
    {
        byte[] bytes = _placed[file].Bytes;
        byte sum = 0;
        foreach (byte value in bytes.AsSpan((int)U32(command, 64), (int)U32(command, 68))) sum += value;
        bytes[U32(command, 60)] -= sum;
    }

    static string NameAt(ReadOnlySpan<byte> command, int at) =>
        Encoding.ASCII.GetString(command.Slice(at, TableLoader.NameSize)).TrimEnd('\0');

    static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
}
