using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Tests.Fuzz;

namespace Qkvm.Storage.Tests;

/// <summary>Images of all formats made to harm: an error of ours, bounded memory, no hang.</summary>
[Collection(nameof(Alone))]
public sealed class HostileFormatTests
{
    public static TheoryData<string> Formats => [.. SampleImages.Formats];

    [Theory, MemberData(nameof(Formats))]
    public async Task A_sound_image_reads_as_it_was_filled(string format)
    {
        var file = new MemoryFile(await SampleImages.Make(format)) { KeepsLog = false };
        await using BlockDriver image = SampleImages.Open(format, file, readOnly: true);
        byte[] data = await image.Read(0, SampleImages.Size);
        byte[] expected = SampleImages.Contents();
        if (format == "qed") // every seventh cluster is not there
            for (int at = 6 * 4096; at < data.Length; at += 7 * 4096) expected.AsSpan(at, 4096).Clear();
        Assert.Equal(expected, data);
    }

    /// <summary>The samples that no tool made are what the reference tools take them for.</summary>
    [QemuTheory]
    [InlineData("qed")] [InlineData("parallels")] [InlineData("bochs")] [InlineData("cloop")] [InlineData("dmg")]
    public async Task Sound_images_made_by_hand_read_the_same_with_qemu(string format)
    {
        using var scratch = new Scratch();
        byte[] bytes = await SampleImages.Make(format);
        File.WriteAllBytes(scratch[$"a.{format}"], bytes);
        QemuTools.Img("convert", "-f", format, "-O", "raw", scratch[$"a.{format}"], scratch["raw"]);
        await using BlockDriver image = scratch.Open($"a.{format}", "readonly=on"); // the format is guessed
        Assert.Equal(format, image.FormatName);
        Assert.Equal(File.ReadAllBytes(scratch["raw"]), await image.Read(0, (int)image.Length));
    }

    [Theory]
    // signature, version, type, map, data, sector size, disk size, block size, blocks, parent
    [InlineData("vdi", 0x40, 4, 1u)] [InlineData("vdi", 0x44, 4, 0x20001u)] [InlineData("vdi", 0x4C, 4, 4u)]
    [InlineData("vdi", 0x154, 4, 3u)] [InlineData("vdi", 0x158, 4, 0x200u)] [InlineData("vdi", 0x168, 4, 4096u)]
    [InlineData("vdi", 0x170, 8, 1ul << 62)] [InlineData("vdi", 0x178, 4, 0x200000u)]
    [InlineData("vdi", 0x180, 4, 0u)] [InlineData("vdi", 0x1B8, 4, 1u)]
    // version, grain, entries per table, directory, compression
    [InlineData("vmdk", 4, 4, 4u)] [InlineData("vmdk", 20, 8, 3u)] [InlineData("vmdk", 20, 8, 1ul << 40)]
    [InlineData("vmdk", 44, 4, 0u)] [InlineData("vmdk", 44, 4, 513u)] [InlineData("vmdk", 12, 8, 1ul << 60)]
    [InlineData("vmdk", 56, 8, 1ul << 60)] [InlineData("vmdk", 77, 2, 9u)] [InlineData("vmdk", 73, 4, 0x0D0A0Du)]
    // cluster, table, features, L1, size
    [InlineData("qed", 4, 4, 0u)] [InlineData("qed", 4, 4, 0x8000_0000u)] [InlineData("qed", 8, 4, 17u)]
    [InlineData("qed", 16, 8, 8u)] [InlineData("qed", 40, 8, 1ul << 50)] [InlineData("qed", 48, 8, 1ul << 62)]
    // version, tracks, entries, sectors
    [InlineData("parallels", 16, 4, 3u)] [InlineData("parallels", 28, 4, 0u)] [InlineData("parallels", 28, 4, ~0u)]
    [InlineData("parallels", 32, 4, 1u)] [InlineData("parallels", 36, 8, 1ul << 60)]
    // version, catalog, bitmap, extent, disk
    [InlineData("bochs", 64, 4, 3u)] [InlineData("bochs", 72, 4, ~0u)] [InlineData("bochs", 72, 4, 1u)]
    [InlineData("bochs", 76, 4, 0u)] [InlineData("bochs", 80, 4, 0u)] [InlineData("bochs", 80, 4, 1u << 30)]
    [InlineData("bochs", 88, 8, 1ul << 63)]
    // block size (big-endian), blocks
    [InlineData("cloop", 128, 4, 0u)] [InlineData("cloop", 128, 4, 0x00000010u)] [InlineData("cloop", 132, 4, ~0u)]
    public async Task A_header_with_impossible_fields_is_refused(string format, int at, int width, ulong value)
    {
        byte[] bytes = await SampleImages.Make(format);
        Span<byte> field = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(field, value);
        field[..width].CopyTo(bytes.AsSpan(at));
        var file = new MemoryFile(bytes) { KeepsLog = false };
        Assert.Throws<ConfigurationException>(() => SampleImages.Open(format, file, readOnly: false));
        Assert.Equal(bytes, file.Contents);
        Assert.Empty(file.Edges);
    }

    [Theory]
    [InlineData("vdi", 512)] [InlineData("vpc", 1536)] [InlineData("vhdx", 2 << 20)]
    public async Task A_block_outside_its_place_fails_its_request_alone(string format, int tableAt)
    {
        byte[] bytes = await SampleImages.Make(format);
        bytes.AsSpan(tableAt, 8).Fill(0x7F);
        var file = new MemoryFile(bytes) { KeepsLog = false, Limit = 64 << 20 };
        await using BlockDriver image = SampleImages.Open(format, file, readOnly: false);
        try { await image.Read(0, 512); }
        catch (BlockException) { }
        try { await image.Write(0, new byte[512]); }
        catch (BlockException) { }
        await image.FlushAsync();
    }

    [Fact]
    public async Task A_compressed_block_that_is_damaged_fails_its_read_alone()
    {
        foreach (string format in (string[])["cloop", "dmg", "dmg-bzip2"])
        {
            byte[] bytes = await SampleImages.Make(format);
            int start = format == "cloop" ? 136 + 5 * 8 : 0;       // the first packed piece
            byte[] magic = format == "dmg-bzip2" ? [.. "BZh"u8] : [0x78, 0x9C];
            int piece = bytes.AsSpan(start).IndexOf(magic) + start;
            bytes.AsSpan(piece + 4, 40).Fill(0xFF);
            await using BlockDriver image = SampleImages.Open(format,
                new MemoryFile(bytes) { KeepsLog = false }, readOnly: true);
            int failed = 0;
            for (int at = 0; at < SampleImages.Size; at += 32 << 10)
                try { await image.Read(at, 512); }
                catch (BlockException e)
                {
                    Assert.Equal(5, e.Errno);
                    failed++;
                }
            Assert.InRange(failed, 1, 2);
        }
    }

    [Theory]
    [InlineData("RW 100 FLAT \"../../etc/passwd\" 0", "no extent ../../etc/passwd")]
    [InlineData("RW 99999999999999999999 SPARSE \"a\"", "Invalid extent line")]
    [InlineData("RW -1 SPARSE \"a\"", "Invalid extent line")] [InlineData("RW 1 ZERO 1 2 3 4", "Invalid extent line")]
    [InlineData("RW 1 VMFSSPARSE \"a\"", "Unsupported extent type")] [InlineData("", "no extents")]
    public void A_vmdk_descriptor_with_impossible_extents_is_refused(string line, string message)
    {
        byte[] text = System.Text.Encoding.UTF8.GetBytes("# Disk DescriptorFile\nversion=1\nCID=1\n"
            + $"parentCID=ffffffff\ncreateType=\"monolithicFlat\"\n{line}\n");
        Assert.Contains(message, Assert.Throws<ConfigurationException>(() => SampleImages.Open("vmdk",
            new MemoryFile(text) { KeepsLog = false }, readOnly: true)).Message);
    }

    [Theory, MemberData(nameof(Formats))]
    public async Task Random_damage_ends_in_errors_of_ours_only(string format)
    {
        var fuzz = new ImageFuzz(format, await SampleImages.Make(format));
        for (int seed = 0; seed < 60; seed++) Assert.Null(fuzz.Try(seed));
    }
}
