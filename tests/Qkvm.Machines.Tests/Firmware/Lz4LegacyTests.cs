using Qkvm.Machines.Firmware.Boot;

namespace Qkvm.Machines.Tests.Firmware;

/// <summary>By hand, after the LZ4 Block Format.</summary>
public class Lz4LegacyTests
{
    [Fact]
    public void Literals_matches_and_matches_into_themselves()
    {
        // "abc", 9 bytes from 3 before, then "xyz" as the last literals
        byte[] block = [0x35, (byte)'a', (byte)'b', (byte)'c', 3, 0, 0x30, (byte)'x', (byte)'y', (byte)'z'];
        byte[] output = new byte[15];
        Lz4Legacy.DecodeBlock(block, output);
        Assert.Equal("abcabcabcabcxyz"u8, output);
    }

    [Fact]
    public void Long_lengths_go_on_while_bytes_are_255()
    {
        // one literal, 15 + 255 + 10 + 4 bytes of it, no more
        byte[] block = [0x1F, 7, 1, 0, 255, 10, 0x00];
        byte[] output = new byte[1 + 15 + 255 + 10 + 4];
        Lz4Legacy.DecodeBlock(block, output);
        Assert.All(output, value => Assert.Equal(7, value));
    }

    [Theory]
    [InlineData(new byte[] { 0x15, 1, 2, 0, 0x00 }, 10)]           // reaches before the beginning
    [InlineData(new byte[] { 0x15, 1, 0, 0, 0x00 }, 10)]           // a distance of 0
    [InlineData(new byte[] { 0x40, 1, 2 }, 4)]                     // literals are cut off
    [InlineData(new byte[] { 0x10, 1 }, 2)]                        // less than the output
    [InlineData(new byte[] { 0x20, 1, 2 }, 1)]                     // more than the output
    [InlineData(new byte[] { 0x1F, 1, 1, 0, 255 }, 300)]           // a length without an end
    public void Damaged_blocks_are_refused(byte[] block, int size) =>
        Assert.Throws<InvalidDataException>(() => Lz4Legacy.DecodeBlock(block, new byte[size]));

    [Theory]
    [InlineData(new byte[] { 2, 0x21, 0x4C, 0x18, 0xFF, 0xFF, 0xFF, 0x7F, 1 })]
    [InlineData(new byte[] { 2, 0x21, 0x4C, 0x18, 2, 0 })]
    [InlineData(new byte[] { 2, 0x21, 0x4C, 0x18 })]
    [InlineData(new byte[] { 3, 0x21, 0x4C, 0x18, 2, 0, 0, 0, 0x10, 1 })]
    public void Damaged_frames_are_refused(byte[] frame) =>
        Assert.Throws<InvalidDataException>(() => Lz4Legacy.Decode(frame, new byte[1]));
}
