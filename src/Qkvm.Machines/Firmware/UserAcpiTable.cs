using System.Text;
using Qkvm.Core.Configuration;

namespace Qkvm.Machines.Firmware;

/// <summary>A table that -acpitable gives: data under a header of its own, or whole tables of files whose header the
/// option may change. Spec: ACPI 6.3, section 5.2.6.</summary>
public static class UserAcpiTable
{
    // The header: (option, offset, size, what data= has without it)
    static readonly (string Name, int At, int Size, string Otherwise)[] s_texts =
    [
        ("sig", 0, 4, "QEMU"), ("oem_id", 10, 6, "QEMUQE"), ("oem_table_id", 16, 8, "QEMUQEMU"),
        ("asl_compiler_id", 28, 4, "QEMU"),
    ];
    static readonly (string Name, int At, int Size)[] s_numbers =
        [("rev", 8, 1), ("oem_rev", 24, 4), ("asl_compiler_rev", 32, 4)];

    const int Makers = 10, MakersSize = 6 + 8;                     // OEMID and OEM Table ID
    const int LongestTable = 1 << 20;

    /// <summary>Software licensing: what it says of its makers, RSDT and FADT must say, too.</summary>
    public static bool IsLicence(byte[] table) => table.AsSpan().StartsWith("SLIC"u8);

    public static void CopyMakers(byte[]? from, byte[] to) =>
        from?.AsSpan(Makers, MakersSize).CopyTo(to.AsSpan(Makers));

    /// <returns>Its bytes, with length and without checksum.</returns>
    /// <exception cref="ConfigurationException">An unknown field, one that does not fit, or a file that cannot be read
    /// or holds no table.</exception>
    public static byte[] Load(Options options)
    {
        string? data = options.Text("data"), file = options.Text("file");
        if ((data == null) == (file == null))
            throw new ConfigurationException($"{options.Owner}: '-acpitable' requires one of 'data' or 'file'");
        byte[] table = [.. data != null ? new byte[AcpiTable.HeaderSize] : [], .. Read(data ?? file!, options.Owner)];
        if (table.Length < AcpiTable.HeaderSize)
            throw new ConfigurationException($"{options.Owner}: {file} is {table.Length} bytes long, less than a "
                + $"table's header of {AcpiTable.HeaderSize}; data= puts a header before what is in it");
        foreach (var (name, at, size, otherwise) in s_texts)
            if ((options.Text(name) ?? (data != null ? otherwise : null)) is { } text)
                Encoding.Latin1.GetBytes(text.PadRight(size, '\0')[..size]).CopyTo(table, at);
        foreach (var (name, at, size) in s_numbers)
            if ((options.Number(name, 0, (1L << size * 8) - 1) ?? (data != null ? 1 : null)) is { } number)
                BitConverter.GetBytes(number)[..size].CopyTo(table, at);
        options.Close();
        BitConverter.TryWriteBytes(table.AsSpan(AcpiTable.LengthOffset), table.Length);
        table[AcpiTable.ChecksumOffset] = 0;
        return table;
    }

    static byte[] Read(string names, string owner)
    {
        var bytes = new List<byte>();
        foreach (string name in names.Split(':'))
        {
            try
            {
                if (bytes.Count + new FileInfo(name).Length > LongestTable)
                    throw new ConfigurationException($"{owner}: {name} is too long: a table has "
                        + $"{LongestTable >> 20} MiB at most");
                bytes.AddRange(File.ReadAllBytes(name));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new ConfigurationException($"{owner}: can't open file {name}: {e.Message}", e);
            }
        }
        return [.. bytes];
    }
}
