using System.Text;
using Qkvm.Core.Configuration;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Tests.Firmware;

/// <summary>-acpitable: ACPI 6.3, section 5.2.6.</summary>
public sealed class UserAcpiTableTests : IDisposable
{
    readonly string _file = Path.GetTempFileName();

    public void Dispose() => File.Delete(_file);

    byte[] Load(string options, ReadOnlySpan<byte> contents)
    {
        File.WriteAllBytes(_file, contents);
        return UserAcpiTable.Load(Options.Parse(options.Replace("FILE", _file), "-acpitable " + options));
    }

    [Fact]
    public void Data_gets_a_header_of_its_own()
    {
        byte[] table = Load("sig=TEST,rev=3,oem_id=ACME,oem_rev=0x102,data=FILE", [1, 2, 3]);
        Assert.Equal("TEST", Encoding.ASCII.GetString(table, 0, 4));
        Assert.Equal((39, 39, 3), (table.Length, BitConverter.ToInt32(table, 4), table[8]));
        Assert.Equal("ACME\0\0QEMUQEMU", Encoding.ASCII.GetString(table, 10, 14));
        Assert.Equal(0x102, BitConverter.ToInt32(table, 24));
        Assert.Equal("QEMU", Encoding.ASCII.GetString(table, 28, 4));
        Assert.Equal([1, 2, 3], table[36..]);
    }

    [Fact]
    public void A_file_keeps_its_header_but_for_what_is_said()
    {
        byte[] whole = new AcpiTable("SLIC", 1).U32(7).ToArray();
        byte[] table = Load("file=FILE,oem_id=ACME12", whole);
        Assert.Equal("ACME12", Encoding.ASCII.GetString(table, 10, 6));
        Assert.Equal(whole[16..], table[16..]);
        Assert.True(UserAcpiTable.IsLicence(table));
        byte[] root = new AcpiTable("RSDT", 1).ToArray();
        UserAcpiTable.CopyMakers(table, root);
        Assert.Equal("ACME12BXPC", Encoding.ASCII.GetString(root, 10, 10));
    }

    [Theory]
    [InlineData("sig=TEST", "requires one of 'data' or 'file'")]
    [InlineData("data=FILE,file=FILE", "requires one of 'data' or 'file'")]
    [InlineData("file=FILE", "less than a table's header")]
    [InlineData("data=/nowhere/x", "can't open file /nowhere/x")]
    [InlineData("data=FILE,rev=300", "rev")]
    [InlineData("data=FILE,colour=red", "colour")]
    public void What_is_wrong_is_named(string options, string named) =>
        Assert.Contains(named, Assert.Throws<ConfigurationException>(() => Load(options, [1, 2, 3])).Message);
}
