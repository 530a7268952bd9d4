using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Tests.Firmware;

public class SmbiosTests
{
    static readonly SmbiosPlatform Platform = new("Standard PC (i440FX + PIIX, 1996)", "pc-i440fx-7.2",
        Guid.Parse("00112233-4455-6677-8899-aabbccddeeff"), new CpuTopology(4, Sockets: 2, Cores: 2, MaxCpus: 4),
            0x078BFBFD_00060FB1, 3UL << 30, 15UL << 30);

    readonly record struct Structure(byte Type, byte[] Bytes, string[] Strings);

    static List<Structure> Parse(byte[] tables)
    {
        var found = new List<Structure>();
        for (int at = 0; at < tables.Length;)
        {
            byte[] formatted = tables.AsSpan(at, tables[at + 1]).ToArray();
            at += formatted.Length;
            var strings = new List<string>();
            while (tables[at] != 0)
            {
                int end = Array.IndexOf(tables, (byte)0, at);
                strings.Add(Encoding.UTF8.GetString(tables.AsSpan(at, end - at)));
                at = end + 1;
            }
            at += strings.Count == 0 ? 2 : 1;
            found.Add(new Structure(formatted[0], formatted, [.. strings]));
        }
        return found;
    }

    [Fact]
    public void The_structures_describe_the_machine_and_the_anchor_counts_them()
    {
        var (anchor, tables) = SmbiosTables.Build(Platform, new SmbiosOptions([]));
        List<Structure> found = Parse(tables);
        Assert.Equal([1, 3, 4, 4, 16, 17, 17, 19, 19, 32, 127], found.Select(s => s.Type));
        Assert.Equal(["QEMU", "Standard PC (i440FX + PIIX, 1996)", "pc-i440fx-7.2"], found[0].Strings);
        Assert.Equal("33221100554477668899AABBCCDDEEFF", Convert.ToHexString(found[0].Bytes, 8, 16));
        Assert.Equal([16384, 2048], found.Where(s => s.Type == 17)
            .Select(s => (int)BinaryPrimitives.ReadUInt16LittleEndian(s.Bytes.AsSpan(12))));
        Assert.Equal("CPU 1", found[3].Strings[0]);
        Assert.Equal(2, found[3].Bytes[0x23]);                     // cores

        Assert.Equal(31, anchor.Length);
        Assert.Equal("_SM_", Encoding.ASCII.GetString(anchor, 0, 4));
        Assert.Equal("_DMI_", Encoding.ASCII.GetString(anchor, 16, 5));
        Assert.Equal((tables.Length, found.Count),
            (BinaryPrimitives.ReadUInt16LittleEndian(anchor.AsSpan(22)),
            BinaryPrimitives.ReadUInt16LittleEndian(anchor.AsSpan(28))));
        Assert.Equal(0x28, anchor[30]);
    }

    [Fact]
    public void Handles_are_unique_and_lengths_are_those_of_version_2_8()
    {
        List<Structure> found =
            Parse(SmbiosTables.Build(Platform, new SmbiosOptions(
            [new(0, null, [new("vendor", "us")]), new(2, null, [])])).Tables);
        Assert.Equal(found.Count, found.Select(s => BinaryPrimitives.ReadUInt16LittleEndian(s.Bytes.AsSpan(2)))
            .Distinct().Count());
        var lengths = new Dictionary<byte, int> { [0] = 0x18, [1] = 0x1B, [2] = 0x0F, [3] = 0x16, [4] = 0x2A,
            [16] = 0x17, [17] = 0x28, [19] = 0x1F, [32] = 0x0B, [127] = 4 };
        Assert.All(found, s => Assert.Equal(lengths[s.Type], s.Bytes.Length));
    }

    [Fact]
    public void Options_replace_the_strings()
    {
        SmbiosConfig[] options = [new(1, null, [new("manufacturer", "Acme"), new("serial", "42")]),
            new(0, null, [new("vendor", "V"), new("release", "1.2")])];
        List<Structure> found = Parse(SmbiosTables.Build(Platform, new SmbiosOptions(options)).Tables);
        Assert.Equal(["Acme", "Standard PC (i440FX + PIIX, 1996)", "pc-i440fx-7.2", "42"],
            found.Single(s => s.Type == 1).Strings);
        Assert.Equal((1, 2), (found[0].Bytes[0x14], found[0].Bytes[0x15]));
    }

    [Theory]
    [InlineData(1, "colour", "red", "colour")]
    [InlineData(99, "vendor", "x", "type=99")]
    [InlineData(0, "release", "new", "release=new")]
    [InlineData(1, "uuid", "12", "uuid=12")]
    public void Wrong_options_are_named(int type, string field, string value, string named)
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            SmbiosTables.Build(Platform, new SmbiosOptions([new(type, null, [new(field, value)])])));
        Assert.StartsWith("-smbios", error.Message);
        Assert.Contains(named, error.Message);
    }

    /// <summary>The lengths and texts as `dmidecode` has them of QEMU with the same options.</summary>
    [Fact]
    public void Connectors_and_devices_of_the_board_are_as_given()
    {
        SmbiosOptions options = new(
        [
            new(8, null, [new("internal_reference", "JUSB"), new("external_reference", "USB"),
                new("connector_type", "0x12"), new("port_type", "0x10")]),
            new(41, null, [new("designation", "Onboard LAN"), new("kind", "ethernet"), new("instance", "1"),
                new("pcidev", "nic")]),
            new(4, null, [new("processor-id", "0x1122334455667788")]),
        ]);
        List<Structure> found = Parse(SmbiosTables.Build(Platform with
            { FindDevice = id => id == "nic" ? (2, 0x18) : null }, options).Tables);
        Structure connector = found.Single(s => s.Type == 8), device = found.Single(s => s.Type == 41);
        Assert.Equal("0809000801000212" + "10", Convert.ToHexString(connector.Bytes));
        Assert.Equal(["JUSB", "USB"], connector.Strings);
        Assert.Equal("290B0029" + "0185" + "01" + "0000" + "0218", Convert.ToHexString(device.Bytes));
        Assert.Equal("8877665544332211", Convert.ToHexString(found.First(s => s.Type == 4).Bytes, 8, 8));
    }

    [Fact]
    public void The_wide_entry_point_is_that_of_version_3_0()
    {
        var (anchor, tables) = SmbiosTables.Build(Platform with { HasWideAnchor = true }, new SmbiosOptions([]));
        Assert.Equal("5F534D335F00180300000100", Convert.ToHexString(anchor, 0, 12));
        Assert.Equal((24, tables.Length), (anchor.Length, BitConverter.ToInt32(anchor, 12)));
        Assert.Equal(0x30, Parse(tables).First(s => s.Type == 4).Bytes.Length);
    }

    [Fact]
    public void A_file_is_a_structure_as_it_is_and_its_type_is_not_made_again()
    {
        string file = Path.GetTempFileName();
        try
        {
            byte[] chassis = [3, 8, 0x77, 0, 1, 2, 0, 0, .. "ACME\0Box\0\0"u8];
            File.WriteAllBytes(file, chassis);
            byte[] tables = SmbiosTables.Build(Platform, new SmbiosOptions([new(null, file, [])])).Tables;
            Assert.Equal(chassis, tables[..chassis.Length]);
            Assert.Single(Parse(tables), s => s.Type == 3);
            Assert.Contains("already specified", Assert.Throws<ConfigurationException>(() => new SmbiosOptions(
                [new(3, null, [new("serial", "1")]), new(null, file, [])])).Message);
        }
        finally { File.Delete(file); }
    }

    [Theory]
    [InlineData("0308", "no SMBIOS structure")] [InlineData("03FF000041420000", "no SMBIOS structure")]
    [InlineData("0304000041", "more or less than one")] [InlineData("03040000000041420000", "more or less than one")]
    public void A_file_without_one_structure_is_refused(string hex, string named)
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(file, Convert.FromHexString(hex));
            string message = Assert.Throws<ConfigurationException>(
                () => new SmbiosOptions([new(null, file, [])])).Message;
            Assert.StartsWith($"-smbios file={file}: ", message);
            Assert.Contains(named, message);
        }
        finally { File.Delete(file); }
    }
}
