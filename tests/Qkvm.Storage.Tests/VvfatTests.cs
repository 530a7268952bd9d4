using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Drivers.Vvfat;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

/// <summary>Directories as FAT disks, read by a reader of the file system that the tests have of their own.</summary>
public class VvfatTests
{
    static BlockDriver Open(string name) =>
        new BlockFactory(new Catalogue<BlockDriverModel>("block driver", [RawDriver.Model, FileDriver.Model,
            VvfatDriver.Model]), _ => { }).OpenImage(name, new ImageOpening("raw"));

    static Dictionary<string, byte[]> Populate(Scratch scratch)
    {
        Directory.CreateDirectory(scratch["dir/Below it/deeper"]);
        var files = new Dictionary<string, byte[]>
        {
            ["README.TXT"] = "hello"u8.ToArray(),
            ["a long name with blanks.text"] = BlockDriverExtensions.Pattern(1, 70_000),
            ["a long name with dots.text"] = BlockDriverExtensions.Pattern(2, 1),
            ["empty"] = [],
            ["Ünicode ☺.bin"] = BlockDriverExtensions.Pattern(3, 8192),
            ["Below it/file"] = BlockDriverExtensions.Pattern(4, 20_000),
            ["Below it/deeper/x.y.z"] = BlockDriverExtensions.Pattern(5, 4097),
        };
        for (int i = 0; i < 40; i++) files[$"Below it/deeper/many files {i}"] = BitConverter.GetBytes(i);
        foreach ((string name, byte[] data) in files) File.WriteAllBytes(scratch["dir/" + name], data);
        File.CreateSymbolicLink(scratch["dir/link"], "/etc/passwd");
        return files;
    }

    [Theory]
    [InlineData("", 16, 528_482_304)] [InlineData("12:", 12, 33_030_144)] [InlineData("32:", 32, 528_482_304)]
    [InlineData("floppy:", 12, 2_949_120)] [InlineData("floppy:12:", 12, 1_474_560)]
    [InlineData("floppy:16:", 16, 2_949_120)]
    public async Task All_files_are_there_with_their_long_names(string kind, int bits, long size)
    {
        using var scratch = new Scratch();
        Dictionary<string, byte[]> files = Populate(scratch);
        await using BlockDriver disk = Open($"fat:{kind}{scratch["dir"]}");
        Assert.Equal(size, disk.Length);
        var reader = new FatReader(disk, isFloppy: kind.StartsWith("floppy"));
        Assert.Equal(bits, reader.Bits);
        Dictionary<string, byte[]> found = await reader.Files();
        Assert.Equal(files.Keys.Order(StringComparer.Ordinal), found.Keys.Order(StringComparer.Ordinal));
        foreach ((string name, byte[] data) in files) Assert.Equal(data, found[name]);
        // Whatever the pieces, the disk is the same.
        byte[] whole = await disk.Read(0, 1 << 20);
        for (int at = 0; at < 200_000; at += 7001) Assert.Equal(whole[at..(at + 7001)], await disk.Read(at, 7001));
    }

    [Theory]
    [InlineData("fat:rw:", "rw=on is not built yet")] [InlineData("fat:floppy:32:", "FAT32 needs more clusters")]
    [InlineData("fat:", "Could not read directory")]
    public void What_cannot_be_made_is_refused(string prefix, string why)
    {
        using var scratch = new Scratch();
        string path = prefix == "fat:" ? scratch["none"] : Path.GetDirectoryName(scratch["x"])!;
        Assert.Contains(why, Assert.Throws<ConfigurationException>(() => Open(prefix + path)).Message);
    }

    [Fact]
    public void More_than_fits_is_refused()
    {
        using var scratch = new Scratch();
        Directory.CreateDirectory(scratch["dir"]);
        using (FileStream big = File.Create(scratch["dir/big"])) big.SetLength(3 << 20);
        Assert.Contains("Directory does not fit in FAT12", Assert.Throws<ConfigurationException>(
            () => Open($"fat:floppy:{scratch["dir"]}")).Message);
    }

    [Fact]
    public async Task A_file_that_has_become_shorter_ends_with_zeros_and_one_that_has_gone_is_an_error()
    {
        using var scratch = new Scratch();
        Directory.CreateDirectory(scratch["dir"]);
        File.WriteAllBytes(scratch["dir/A"], BlockDriverExtensions.Pattern(1, 5000));
        File.WriteAllBytes(scratch["dir/B"], new byte[5000]);
        await using BlockDriver disk = Open($"fat:floppy:{scratch["dir"]}");
        File.WriteAllBytes(scratch["dir/A"], new byte[10]);
        File.Delete(scratch["dir/B"]);
        var reader = new FatReader(disk, isFloppy: true);
        var e = await Assert.ThrowsAsync<BlockException>(reader.Files);
        Assert.Equal(5, e.Errno);
        File.WriteAllBytes(scratch["dir/B"], []);
        Assert.Equal(new byte[5000], (await reader.Files())["A"]);
    }
}
