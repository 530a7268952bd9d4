using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Tests.Firmware;

public class KernelTests
{
    const ulong MiB = 1 << 20;
    const int SetupSize = 5 * 512;

    readonly FwCfg _fwCfg = new(Space("memory"), Space("ports"));

    static AddressSpace Space(string name) => new(name, MemoryRegion.Container(name, 0x10000), new MachineLock());

    /// <summary>A header as Documentation/x86/boot.rst has it, and 4 KiB of kernel.</summary>
    static byte[] BzImage(ushort protocol = 0x20F, byte loadFlags = 1, uint initrdMax = 0x7FFF_FFFF, ushort extendedFlags = 0)
    {
        byte[] image = new byte[SetupSize + 4096];
        image.AsSpan(SetupSize).Fill(0xC3);
        image[0x1F1] = 4;
        "HdrS"u8.CopyTo(image.AsSpan(0x202));
        BinaryPrimitives.WriteUInt16LittleEndian(image.AsSpan(0x206), protocol);
        image[0x211] = loadFlags;
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(0x22C), initrdMax);
        BinaryPrimitives.WriteUInt16LittleEndian(image.AsSpan(0x236), extendedFlags);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(0x238), 2047);
        return image;
    }

    [Fact]
    public void A_bzImage_is_split_and_its_loader_fields_are_filled_in()
    {
        byte[] kernel = BzImage();
        LinuxImage.Load(_fwCfg, "vmlinuz", kernel, "console=ttyS0 vga=0x317", "initrd", new byte[5000], 128 * MiB);
        byte[] setup = _fwCfg.Item(FwCfgKey.SetupData).ToArray();
        Assert.Equal(SetupSize, setup.Length);
        Assert.Equal((0xB0, 0x81), (setup[0x210], setup[0x211]));
        Assert.Equal(0xFE00, BinaryPrimitives.ReadUInt16LittleEndian(setup.AsSpan(0x224)));
        Assert.Equal(0x317, BinaryPrimitives.ReadUInt16LittleEndian(setup.AsSpan(0x1FA)));
        Assert.Equal(0x20000u, U32(setup, 0x228));
        Assert.Equal((5000u, Number(FwCfgKey.InitrdAddress)), (U32(setup, 0x21C), U32(setup, 0x218)));
        Assert.Equal((0x10000u, (uint)SetupSize), (Number(FwCfgKey.SetupAddress), Number(FwCfgKey.SetupSize)));
        Assert.Equal((0x100000u, 4096u), (Number(FwCfgKey.KernelAddress), Number(FwCfgKey.KernelSize)));
        Assert.Equal("console=ttyS0 vga=0x317\0", Encoding.ASCII.GetString(_fwCfg.Item(FwCfgKey.CommandLineData).Span));
        Assert.Equal(24u, Number(FwCfgKey.CommandLineSize));
        Assert.Equal(kernel[SetupSize..], _fwCfg.Item(FwCfgKey.KernelData).ToArray());
    }

    [Theory]
    [InlineData(128, 0x7FFF_FFFFu, 0, 128 * MiB - 0x28000)]       // below the firmware's tables
    [InlineData(2048, 0x37FF_FFFFu, 0, 0x37FF_FFFFul)]            // where the kernel says
    [InlineData(2048, 0x37FF_FFFFu, 2, 2048 * MiB - 0x28000)]     // anywhere, by XLF_CAN_BE_LOADED_ABOVE_4G
    public void The_initrd_goes_as_high_as_it_may(ulong mebibytes, uint initrdMax, ushort flags, ulong limit)
    {
        LinuxImage.Load(_fwCfg, "vmlinuz", BzImage(initrdMax: initrdMax, extendedFlags: flags), "", "initrd", new byte[5000], mebibytes * MiB);
        uint address = Number(FwCfgKey.InitrdAddress);
        Assert.Equal(0u, address % 4096);
        Assert.InRange((ulong)address + 5000, limit - 8192, limit);
    }

    [Theory]
    [InlineData("empty")] [InlineData("text")] [InlineData("old")] [InlineData("low")] [InlineData("cut")]
    public void What_is_no_bzImage_is_refused_with_the_reason(string kind)
    {
        byte[] kernel = kind switch
        {
            "empty" => [],
            "text" => Encoding.ASCII.GetBytes(new string('x', 4096)),
            "old" => BzImage(protocol: 0x200),
            "low" => BzImage(loadFlags: 0),
            _ => BzImage()[..1024],
        };
        var error = Assert.Throws<ConfigurationException>(() => LinuxImage.Load(_fwCfg, "/boot/it", kernel, "", null, null, 128 * MiB));
        Assert.StartsWith("-kernel /boot/it: not a Linux bzImage (", error.Message);
    }

    [Fact]
    public void An_initrd_that_does_not_fit_and_a_long_command_line_are_refused()
    {
        Assert.Contains("-initrd big", Assert.Throws<ConfigurationException>(
            () => LinuxImage.Load(_fwCfg, "k", BzImage(), "", "big", new byte[16 * MiB], 16 * MiB)).Message);
        Assert.Contains("-append", Assert.Throws<ConfigurationException>(
            () => LinuxImage.Load(_fwCfg, "k", BzImage(), new string('a', 2048), null, null, 64 * MiB)).Message);
    }

    [Fact]
    public void A_Multiboot_image_with_address_fields_is_laid_out_with_its_modules_and_information()
    {
        string module = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(module, [7, 8, 9]);
            MultibootImage.Load(_fwCfg, "kernel", AddressFieldsImage(), "arg", $"{module} one two", 64 * MiB);
            byte[] block = _fwCfg.Item(FwCfgKey.KernelData).ToArray(), information = _fwCfg.Item(FwCfgKey.InitrdData).ToArray();
            uint at = Number(FwCfgKey.InitrdAddress), load = Number(FwCfgKey.KernelAddress);
            Assert.Equal((0x10_0000u, 0x10_0020u), (load, Number(FwCfgKey.KernelEntry)));
            Assert.Equal(0x1BADB002u, U32(block, 0));
            Assert.Equal(0u, U32(block, 0x100));                   // bss
            Assert.True(at + information.Length <= 0xA0000);
            Assert.Equal(0x41u, U32(information, 0) & 0x41);       // the ROM fills memory sizes and map in
            Assert.Equal("kernel arg", TextAt(information, U32(information, 16) - at));
            Assert.Equal(1u, U32(information, 20));
            int list = (int)(U32(information, 24) - at);
            uint start = U32(information, list), end = U32(information, list + 4);
            Assert.Equal((0u, 3u), (start % 4096, end - start));
            Assert.Equal([7, 8, 9], block.AsSpan((int)(start - load), 3).ToArray());
            Assert.Equal($"{module} one two", TextAt(information, U32(information, list + 8) - at));
            Assert.True(U32(information, 48) - at + 32 * 24 <= information.Length);
        }
        finally { File.Delete(module); }
    }

    [Fact]
    public void A_Multiboot_ELF_image_is_laid_out_by_its_program_headers()
    {
        byte[] elf = Elf(32);
        MultibootImage.Load(_fwCfg, "kernel", elf, "", null, 64 * MiB);
        byte[] block = _fwCfg.Item(FwCfgKey.KernelData).ToArray();
        Assert.Equal((0x20_0000u, 0x20_0010u), (Number(FwCfgKey.KernelAddress), Number(FwCfgKey.KernelEntry))); // physical
        Assert.Equal(0x3000, block.Length);
        Assert.Equal(elf[0x1000..0x1100], block[..0x100]);
        Assert.All(block[0x100..], b => Assert.Equal(0, b));
    }

    [Theory]
    [InlineData(64, "32-bit")]
    [InlineData(32, "outside the file")]
    public void A_bad_Multiboot_ELF_image_is_refused(int bits, string why)
    {
        byte[] elf = Elf(bits);
        if (bits == 32) BinaryPrimitives.WriteUInt32LittleEndian(elf.AsSpan(52 + 16), 0xFFFF_0000);
        var error = Assert.Throws<ConfigurationException>(() => MultibootImage.Load(_fwCfg, "kernel", elf, "", null, 64 * MiB));
        Assert.StartsWith("-kernel kernel:", error.Message);
        Assert.Contains(why, error.Message);
    }

    static byte[] AddressFieldsImage()
    {
        const uint Flags = 0x10000, Load = 0x10_0000;
        byte[] image = new byte[256];
        image.AsSpan().Fill(0x90);
        uint[] header = [0x1BADB002, Flags, unchecked(0u - 0x1BADB002u - Flags), Load, Load, Load + 256, Load + 0x1000, Load + 0x20];
        for (int i = 0; i < header.Length; i++) BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(i * 4), header[i]);
        return image;
    }

    static byte[] Elf(int bits)
    {
        byte[] image = new byte[0x1100];
        "\u007fELF"u8.CopyTo(image);
        image[4] = bits == 64 ? (byte)2 : (byte)1;
        image[18] = 3;
        Put(24, 0xC020_0010);
        Put(28, 52);
        image[42] = 32;
        image[44] = 1;
        uint[] segment = [1, 0x1000, 0xC020_0000, 0x20_0000, 0x100, 0x3000, 5, 0x1000];
        for (int i = 0; i < segment.Length; i++) Put(52 + i * 4, segment[i]);
        image.AsSpan(0x1000, 0x100).Fill(0xAB);
        uint[] header = [0x1BADB002, 0, unchecked(0u - 0x1BADB002u)];
        for (int i = 0; i < header.Length; i++) Put(0x1000 + i * 4, header[i]);
        return image;

        void Put(int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(at), value);
    }

    static string TextAt(byte[] block, uint at) => Encoding.UTF8.GetString(block.AsSpan((int)at, Array.IndexOf(block, (byte)0, (int)at) - (int)at));
    uint Number(ushort key) => U32(_fwCfg.Item(key).ToArray(), 0);
    static uint U32(byte[] bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at));
}
