using System.Buffers.Binary;
using Qkvm.Core.Pci;

namespace Qkvm.Core.Tests;

public sealed class OptionRomTests
{
    [Fact]
    public void An_image_of_a_sister_gets_the_numbers_of_the_function_and_sums_up_to_zero()
    {
        var rom = new byte[2048];
        new Random(1).NextBytes(rom);
        (rom[0], rom[1], rom[2]) = (0x55, 0xAA, 2);
        BinaryPrimitives.WriteUInt16LittleEndian(rom.AsSpan(0x18), 0x40);
        "PCIR"u8.CopyTo(rom.AsSpan(0x40));
        OptionRom.Adopt(rom, new PciIdentity(0x1AF4, 0x1000, 0x020000));
        Assert.Equal(0x1AF4, BinaryPrimitives.ReadUInt16LittleEndian(rom.AsSpan(0x44)));
        Assert.Equal(0x1000, BinaryPrimitives.ReadUInt16LittleEndian(rom.AsSpan(0x46)));
        Assert.Equal(0, rom.Take(1024).Sum(b => b) & 0xFF);
    }

    [Fact]
    public void What_is_no_image_stays_as_it_is()
    {
        foreach (int length in (int[])[0, 10, 0x1C, 512])
        {
            var rom = new byte[length];
            if (length >= 0x1C) (rom[0], rom[1], rom[0x19]) = (0x55, 0xAA, 0xFF);
            var before = (byte[])rom.Clone();
            OptionRom.Adopt(rom, new PciIdentity(1, 2, 3));
            Assert.Equal(before, rom);
        }
    }
}
