using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Char;
using Qkvm.Hw.Iommu;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Tpm;
using Qkvm.Machines.Firmware;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Firmware;

/// <summary>Needs Debian's acpica-tools.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class IaslFactAttribute()
    : ConditionalFactAttribute(File.Exists(Compiler) ? null : "iasl is not installed")
{
    public const string Compiler = "/usr/bin/iasl";
}

public class AcpiTablesTests
{
    const ulong TablesAt = 0x7FFE_0000, RsdpAt = 0xF_5A40;

    static readonly AcpiPlatform Platform = new()
    {
        ApicIds = [0, 1, 2, 3],
        IsCpuPresent = cpu => cpu < 2,
        Chipset = new AcpiChipset(AcpiChipset.DefaultPmBase, 0xF1, 0xF0, 0xAFE0, 4, 6),
        Tree = new QBus("main-system-bus", BusKind.System),
    };

    readonly Dictionary<string, (ulong At, byte[] Bytes)> _files = Load(AcpiTables.Build(Platform));

    /// <summary>Does what the firmware does with the loader script.</summary>
    static Dictionary<string, (ulong At, byte[] Bytes)> Load(AcpiTables.Files built)
    {
        var contents = new Dictionary<string, byte[]> { [AcpiTables.TablesFile] = built.Tables,
            [AcpiTables.RsdpFile] = built.Rsdp, [ITpmDevice.LogFile] = [],
            [IGenerationId.File] = [] };
        var files = new Dictionary<string, (ulong At, byte[] Bytes)>();
        Assert.Equal(0, built.Loader.Length % 128);
        for (int at = 0; at < built.Loader.Length; at += 128)
        {
            ReadOnlySpan<byte> command = built.Loader.AsSpan(at, 128);
            string file = Text(command.Slice(4, 56));
            switch (BinaryPrimitives.ReadUInt32LittleEndian(command))
            {
                case 1:
                    bool high = command[64] == 1;
                    ulong address = high ? TablesAt : RsdpAt;
                    Assert.Equal(0u, address % BinaryPrimitives.ReadUInt32LittleEndian(command[60..]));
                    files.Add(file, (address, contents[file]));
                    break;
                case 2:
                    var (target, source) = (files[file].Bytes, files[Text(command.Slice(60, 56))]);
                    int offset = (int)BinaryPrimitives.ReadUInt32LittleEndian(command[116..]);
                    if (command[120] == 4)
                        BinaryPrimitives.WriteUInt32LittleEndian(target.AsSpan(offset),
                            BinaryPrimitives.ReadUInt32LittleEndian(target.AsSpan(offset)) + (uint)source.At);
                    else
                        BinaryPrimitives.WriteUInt64LittleEndian(target.AsSpan(offset),
                            BinaryPrimitives.ReadUInt64LittleEndian(target.AsSpan(offset)) + source.At);
                    break;
                case 3:
                    byte[] bytes = files[file].Bytes;
                    int checksum = (int)BinaryPrimitives.ReadUInt32LittleEndian(command[60..]);
                    int start = (int)BinaryPrimitives.ReadUInt32LittleEndian(command[64..]);
                    int length = (int)BinaryPrimitives.ReadUInt32LittleEndian(command[68..]);
                    bytes[checksum] = (byte)-Sum(bytes.AsSpan(start, length));
                    break;
                default:
                    Assert.Fail("an unknown loader command");
                    break;
            }
        }
        return files;
    }

    [Fact]
    public void The_RSDP_leads_to_all_tables_and_every_checksum_is_right()
    {
        byte[] rsdp = _files[AcpiTables.RsdpFile].Bytes;
        Assert.Equal("RSD PTR ", Encoding.ASCII.GetString(rsdp, 0, 8));
        Assert.Equal(0, Sum(rsdp.AsSpan(0, 20)));
        Assert.Equal(0, Sum(rsdp));
        string[] expected = ["FACP", "APIC", "HPET", "WAET"];
        Assert.Equal(expected, Children(Table(U32(rsdp, 16)), "RSDT", 4));
        Assert.Equal(expected, Children(Table(U64(rsdp, 24)), "XSDT", 8));

        ReadOnlySpan<byte> fadt = Find("FACP");
        Assert.Equal(244, fadt.Length);
        Assert.Equal("FACS", Encoding.ASCII.GetString(At(U32(fadt, 36))[..4]));
        Assert.Equal(0u, U32(fadt, 36) % 64);
        Assert.Equal("DSDT", Encoding.ASCII.GetString(Table(U32(fadt, 40))[..4]));
        Assert.Equal(U32(fadt, 40), U64(fadt, 140));
        Assert.Equal(0, Sum(Table(U32(fadt, 40))));
    }

    [Fact]
    public void The_FADT_names_the_power_management_ports()
    {
        ReadOnlySpan<byte> fadt = Find("FACP");
        Assert.Equal(9, BinaryPrimitives.ReadUInt16LittleEndian(fadt[46..]));
        Assert.Equal((0xB2u, (byte)0xF1, (byte)0xF0), (U32(fadt, 48), fadt[52], fadt[53]));
        Assert.Equal((0x600u, 0x604u, 0x608u, 0xAFE0u), (U32(fadt, 56), U32(fadt, 64), U32(fadt, 76), U32(fadt, 80)));
        Assert.Equal((4, 2, 4, 4), (fadt[88], fadt[89], fadt[91], fadt[92]));
        Assert.Equal(((byte)1, 0xCF9ul, (byte)6), (fadt[116], U64(fadt, 120), fadt[128]));
    }

    [Fact]
    public void The_MADT_lists_processors_the_IOAPIC_and_the_overrides()
    {
        ReadOnlySpan<byte> madt = Find("APIC");
        var entries = new List<string>();
        for (int at = 44; at < madt.Length; at += madt[at + 1])
            entries.Add(Convert.ToHexString(madt.Slice(at, madt[at + 1])));
        string[] expected =
        [
            "0008000001000000", "0008010101000000", "0008020200000000", "0008030300000000",
            "010C00000000C0FE00000000",
            "020A0000020000000000", "020A0005050000000D00", "020A0009090000000D00", "020A000A0A0000000D00",
                "020A000B0B0000000D00",
            "0406FF000001",
        ];
        Assert.Equal(expected, entries);
    }

    [Fact]
    public void An_APIC_id_of_255_or_more_makes_an_x2APIC_entry()
    {
        var built = AcpiTables.Build(Platform with { ApicIds = [0, 256] });
        Assert.Contains("0910000000010000" + "01000000" + "01000000", Convert.ToHexString(built.Tables));
    }

    [Theory]
    [InlineData(TpmVersion.V12, "TCPA", 50)]
    [InlineData(TpmVersion.V20, "TPM2", 76)]
    public void A_TPM_has_a_table_that_ends_with_its_event_log(TpmVersion version, string signature, int length)
    {
        var tpm = new TpmTis(new FakeTpm(version), new IrqLine("irq", _ => { }), 5);
        byte[] tables = Load(AcpiTables.Build(Platform with { Tpm = tpm }))[AcpiTables.TablesFile].Bytes;
        ReadOnlySpan<byte> table = tables.AsSpan(tables.AsSpan().IndexOf(Encoding.ASCII.GetBytes(signature)));
        Assert.Equal((uint)length, U32(table, 4));
        Assert.Equal(0, Sum(table[..length]));
        Assert.Equal((64u << 10, TablesAt), (U32(table, length - 12), U64(table, length - 8)));
        if (version == TpmVersion.V20) Assert.Equal((0ul, 6u), (U64(table, 40), U32(table, 48)));
    }

    /// <summary>The package of ADDR: the page that the loader placed, and the number in it.</summary>
    [Fact]
    public void A_generation_id_has_a_table_with_its_address()
    {
        byte[] tables = Load(AcpiTables.Build(Platform with { HasGenerationId = true }))[AcpiTables.TablesFile].Bytes;
        ReadOnlySpan<byte> table = tables.AsSpan(tables.AsSpan().IndexOf("SSDT"u8));
        table = table[..(int)U32(table, 4)];
        Assert.Equal(0, Sum(table));
        ReadOnlySpan<byte> package = table[(table.IndexOf("ADDR"u8) + 4)..];
        Assert.Equal((0x12, 2, 0x0C), (package[0], package[2], package[3]));
        Assert.Equal((uint)TablesAt + 40, U32(package, 4));
        Assert.Equal(0, package[8]);
    }

    /// <summary>VT-d, chapter 8: all functions are one unit's, which knows the I/O APIC as FF:00.0.</summary>
    [Theory]
    [InlineData(true, 48, false, "2F01", "00001800" + "01000000" + "0000D9FE00000000" + "03080000" + "00FF0000")]
    [InlineData(false, 39, true, "2600", "00001800" + "01000000" + "0000D9FE00000000" + "03080000" + "00FF0000"
        + "02000800" + "01000000")]
    public void An_IOMMU_has_a_table(bool remaps, int bits, bool hasDeviceIotlb, string width, string structures)
    {
        using var memory = new TestMemory();
        var iommu = new IntelIommu(memory.Space, null, memory.Lock, static _ => { },
            new IntelIommuOptions(remaps, AddressBits: bits, HasDeviceIotlb: hasDeviceIotlb));
        byte[] tables = Load(AcpiTables.Build(Platform with { Iommu = iommu }))[AcpiTables.TablesFile].Bytes;
        ReadOnlySpan<byte> table = tables.AsSpan(tables.AsSpan().IndexOf("DMAR"u8));
        table = table[..(int)U32(table, 4)];
        Assert.Equal(0, Sum(table));
        Assert.Equal(width, Convert.ToHexString(table[36..38]));
        Assert.Equal(structures, Convert.ToHexString(table[48..]));
    }

    /// <summary>The source of a table, which is also left in the directory as dsdt.dsl.</summary>
    internal static string Disassemble(byte[] table, string directory)
    {
        File.WriteAllBytes(Path.Combine(directory, "dsdt.aml"), table);
        Run(IaslFactAttribute.Compiler, directory, "-d", "dsdt.aml");
        return File.ReadAllText(Path.Combine(directory, "dsdt.dsl"));
    }

    [IaslFact]
    public void The_disassembler_understands_the_DSDT_and_its_source_compiles_to_the_same()
    {
        string directory = Directory.CreateTempSubdirectory().FullName;
        try
        {
            byte[] dsdt = Dsdt(new DeviceConfig("isa-parallel", null, [new("chardev", "lpt")], "-device"),
                new DeviceConfig("isa-serial", null, [new("chardev", "com"), new("index", "1")], "-device"),
                new DeviceConfig("pvpanic", null, [], "-device"));
            string source = Disassemble(dsdt, directory);
            foreach (string name in (string[])["Device (PCI0)", "Device (LNKA)", "Device (COM2)", "Device (HPET)",
                "Device (LPT1)", "Device (KBD", "Device (RTC", "Device (PEVT)", "Name (_PRT",
                "Name (\\_S5", "Method (_SRS, 1"])
                Assert.Contains(name, source);
            string report = Run(IaslFactAttribute.Compiler, directory, "-oa", "-p", "again", "dsdt.dsl");
            Assert.Contains("0 Errors", report);
            Run(IaslFactAttribute.Compiler, directory, "-d", "again.aml");
            Assert.Equal(Body(source), Body(File.ReadAllText(Path.Combine(directory, "again.dsl"))));
        }
        finally { Directory.Delete(directory, recursive: true); }
    }

    /// <summary>A device is described however it was asked for, by itself alone, and the second of a name is
    /// not.</summary>
    [Fact]
    public void Each_device_that_is_there_is_described_once()
    {
        DeviceConfig serial = new("isa-serial", null, [new("chardev", "com"), new("iobase", "0x1234"),
            new("irq", "7"), new("index", "2")], "-device");
        DeviceConfig panic = new("pvpanic", null, [new("ioport", "0x777")], "-device");
        DeviceConfig other = new("pvpanic", null, [new("ioport", "0x666")], "-device");
        string with = Encoding.Latin1.GetString(Dsdt(serial, panic, other));
        string without = Encoding.Latin1.GetString(Dsdt());
        foreach (string name in (string[])["COM3", "PEVT"])
        {
            Assert.Single(Regex.Matches(with, $@"\x5B\x82.{{1,3}}{name}", RegexOptions.Singleline));
            Assert.DoesNotContain(name, without, StringComparison.Ordinal);
        }
        Assert.Contains("\x47\x01\x34\x12\x34\x12\x01\x08\x22\x80\x00", with, StringComparison.Ordinal);
        Assert.Contains("\x47\x01\x77\x07\x77\x07\x01\x01", with, StringComparison.Ordinal);
        Assert.DoesNotContain("COM1", with, StringComparison.Ordinal);
    }

    static byte[] Dsdt(params DeviceConfig[] devices)
    {
        var backends = new MachineBackends { Chardevs = { ["com"] = new FakeChar(), ["lpt"] = new FakeChar() } };
        using var pc = new TestMachine(c => c with { Devices = devices },
            [IsaSerial.Model, ParallelPort.Model, Pvpanic.Model], backends);
        byte[] tables = pc.Board.FirmwareConfiguration.Files[AcpiTables.TablesFile].ToArray();
        int at = tables.AsSpan().IndexOf("DSDT"u8);
        return tables[at..(at + (int)U32(tables, at + 4))];
    }

    /// <summary>The compiler leaves the root's backslash out where a name starts at the root anyway.</summary>
    static string Body(string source) => source[source.IndexOf('{', StringComparison.Ordinal)..].Replace("\\_", "_");

    static string Run(string program, string directory, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = directory, RedirectStandardOutput = true, RedirectStandardError = true,
        })!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd() + errors.Result;
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, output);
        return output;
    }

    string[] Children(ReadOnlySpan<byte> root, string signature, int size)
    {
        Assert.Equal(signature, Encoding.ASCII.GetString(root[..4]));
        Assert.Equal(0, Sum(root));
        var names = new List<string>();
        for (int at = 36; at < root.Length; at += size)
        {
            ReadOnlySpan<byte> table = Table(size == 4 ? U32(root, at) : U64(root, at));
            Assert.Equal(0, Sum(table));
            names.Add(Encoding.ASCII.GetString(table[..4]));
        }
        return [.. names];
    }

    ReadOnlySpan<byte> Find(string signature)
    {
        ReadOnlySpan<byte> root = Table(U32(_files[AcpiTables.RsdpFile].Bytes, 16));
        for (int at = 36; at < root.Length; at += 4)
            if (Encoding.ASCII.GetString(Table(U32(root, at))[..4]) == signature) return Table(U32(root, at));
        throw new InvalidOperationException(signature);
    }

    ReadOnlySpan<byte> Table(ulong address)
    {
        ReadOnlySpan<byte> table = At(address);
        return table[..(int)U32(table, 4)];
    }

    ReadOnlySpan<byte> At(ulong address) => _files[AcpiTables.TablesFile].Bytes.AsSpan((int)(address - TablesAt));

    static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes) sum += value;
        return sum;
    }

    static string Text(ReadOnlySpan<byte> field) => Encoding.ASCII.GetString(field).TrimEnd('\0');
    static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
    static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
