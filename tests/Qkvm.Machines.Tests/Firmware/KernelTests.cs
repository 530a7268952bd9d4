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

    readonly List<string> _warnings = [];
    readonly FwCfg _fwCfg = new(Space("memory"), Space("ports"));

    static AddressSpace Space(string name) => new(name, MemoryRegion.Container(name, 0x10000), new MachineLock());

    /// <summary>A header as Documentation/x86/boot.rst has it, and 4 KiB of kernel.</summary>
    static byte[] BzImage(ushort protocol = 0x20F, byte loadFlags = 1, uint initrdMax = 0x7FFF_FFFF,
        ushort extendedFlags = 0)
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
    [InlineData(128, 0x7FFF_FFFFu, 0, 128 * MiB)]                 // the end of memory
    [InlineData(2048, 0x37FF_FFFFu, 0, 0x37FF_FFFFul)]            // where the kernel says
    [InlineData(2048, 0x37FF_FFFFu, 2, 2048 * MiB)]               // anywhere, by XLF_CAN_BE_LOADED_ABOVE_4G
    public void The_initrd_goes_as_high_as_it_may(ulong mebibytes, uint initrdMax, ushort flags, ulong limit)
    {
        LinuxImage.Load(_fwCfg, "vmlinuz", BzImage(initrdMax: initrdMax, extendedFlags: flags), "", "initrd",
            new byte[5000], mebibytes * MiB);
        uint address = Number(FwCfgKey.InitrdAddress);
        Assert.Equal(0u, address % 4096);
        Assert.InRange((ulong)address + 5000, limit - 8192, limit);
    }

    [Theory]
    [InlineData("empty")] [InlineData("text")] [InlineData("large")] [InlineData("cut")] [InlineData("setup")]
    public void What_is_no_Linux_kernel_is_refused_with_the_reason(string kind)
    {
        byte[] kernel = kind switch
        {
            "empty" => [],
            "text" => Encoding.ASCII.GetBytes(new string('x', 4096)),
            "large" => [.. BzImage(loadFlags: 0), .. new byte[0x80000]], // a zImage that reaches beyond 90000h
            "setup" => LongSetup(),
            _ => BzImage()[..1024],
        };
        var error =
            Assert.Throws<ConfigurationException>(() =>
            LinuxImage.Load(_fwCfg, "/boot/it", kernel, "", null, null, 128 * MiB));
        Assert.StartsWith("-kernel /boot/it: not a Linux kernel (", error.Message);

        static byte[] LongSetup()
        {
            byte[] image = [.. BzImage(), .. new byte[0x10000]];
            image[0x1F1] = 64;
            return image;
        }
    }

    /// <summary>boot.rst, "The kernel command line", "Sample boot configuration", and the fields' own
    /// versions.</summary>
    [Theory]
    [InlineData(0x000, 0, 0x90000u, 0x10000u)] [InlineData(0x200, 0, 0x90000u, 0x10000u)]
    [InlineData(0x200, 1, 0x90000u, 0x100000u)]
    [InlineData(0x201, 0, 0x90000u, 0x10000u)] [InlineData(0x201, 1, 0x90000u, 0x100000u)]
    [InlineData(0x202, 0, 0x90000u, 0x10000u)]
    [InlineData(0x202, 1, 0x10000u, 0x100000u)] [InlineData(0x20F, 1, 0x10000u, 0x100000u)]
    public void Each_version_of_the_protocol_is_loaded_by_its_own_rules(int version, byte loadFlags, uint realMode,
        uint address)
    {
        byte[] kernel = BzImage((ushort)version, loadFlags);
        kernel.AsSpan(0x20, 4).Fill(0x11);
        (kernel[0x1FE], kernel[0x1FF]) = (0x55, 0xAA);
        if (version == 0) kernel.AsSpan(0x202, 4).Clear();
        LinuxImage.Load(_fwCfg, "vmlinuz", kernel, "root=/dev/hda", version == 0 ? null : "initrd", version == 0 ? null
            : new byte[5000], 64 * MiB);
        byte[] setup = _fwCfg.Item(FwCfgKey.SetupData).ToArray();
        uint line = Number(FwCfgKey.CommandLineAddress), heapEnd = line - realMode;
        Assert.Equal((realMode, address), (Number(FwCfgKey.SetupAddress), Number(FwCfgKey.KernelAddress)));
        Assert.Equal(realMode == 0x10000 ? 0x10000u : 0x9800u, heapEnd);
        Assert.Equal(version >= 0x200 ? 0xB0 : kernel[0x210], setup[0x210]);
        Assert.Equal(version >= 0x201 ? 0x80 : 0, setup[0x211] & 0x80);
        if (version >= 0x201)
            Assert.Equal(heapEnd - 0x200, BinaryPrimitives.ReadUInt16LittleEndian(setup.AsSpan(0x224)));
        if (version >= 0x202)
        {
            Assert.Equal(line, U32(setup, 0x228));
            Assert.Equal(0x11111111u, U32(setup, 0x20));
        }
        else
        {
            Assert.Equal(0x9800_A33Fu, U32(setup, 0x20));          // magic, offset
            Assert.Equal(0u, U32(setup, 0x228));                   // not the loader's in those versions
            Assert.Equal(version == 0 ? 0 : 0x9800 + 14, BinaryPrimitives.ReadUInt16LittleEndian(setup.AsSpan(0x212)));
        }
        if (version >= 0x200)
            Assert.Equal((Number(FwCfgKey.InitrdAddress), 5000u), (U32(setup, 0x218), U32(setup, 0x21C)));
    }

    [Fact]
    public void A_kernel_older_than_the_protocol_takes_no_initrd()
    {
        byte[] kernel = BzImage();
        kernel.AsSpan(0x202, 4).Clear();
        (kernel[0x1FE], kernel[0x1FF]) = (0x55, 0xAA);
        Assert.StartsWith("-initrd i:", Assert.Throws<ConfigurationException>(
            () => LinuxImage.Load(_fwCfg, "k", kernel, "", "i", new byte[1], 64 * MiB)).Message);
    }

    /// <summary>boot.rst, "init_size": the memory that the kernel needs before it looks at the memory map.</summary>
    [Fact]
    public void The_initrd_lies_behind_what_the_kernel_unpacks_to()
    {
        byte[] kernel = BzImage();
        BinaryPrimitives.WriteUInt64LittleEndian(kernel.AsSpan(0x258), 16 * MiB);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x230), 2 << 20);
        kernel[0x234] = 1;
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x260), 40 << 20);
        LinuxImage.Load(_fwCfg, "k", kernel, "", "i", new byte[4 * MiB], 64 * MiB);
        Assert.InRange((ulong)Number(FwCfgKey.InitrdAddress), 56 * MiB, 60 * MiB);
        Assert.Contains("-initrd i", Refused(new byte[9 * MiB], 64));
        Assert.Contains("needs the memory up to 57 MiB", Refused(null, 48));

        string Refused(byte[]? initrd, ulong mebibytes) => Assert.Throws<ConfigurationException>(
            () => LinuxImage.Load(_fwCfg, "k", kernel, "", "i", initrd, mebibytes * MiB)).Message;
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
        string module = Path.Combine(Path.GetTempPath(), $"qkvm,{Guid.NewGuid()}"),
            typed = module.Replace(",", ",,", StringComparison.Ordinal);
        try
        {
            File.WriteAllBytes(module, [7, 8, 9]);
            LoadMultiboot(AddressFieldsImage(), "arg", $"{typed} one,,two three,{typed}");
            byte[] block = _fwCfg.Item(FwCfgKey.KernelData).ToArray(),
                information = _fwCfg.Item(FwCfgKey.InitrdData).ToArray();
            byte[] modules = _fwCfg.Item(FwCfgKey.SetupData).ToArray();
            uint at = Number(FwCfgKey.InitrdAddress), load = Number(FwCfgKey.KernelAddress),
                modulesAt = Number(FwCfgKey.SetupAddress);
            Assert.Equal((0x10_0000u, 0x10_0020u), (load, Number(FwCfgKey.KernelEntry)));
            Assert.Equal(0x1BADB002u, U32(block, 0));
            Assert.Equal(0u, U32(block, 0x100));                   // bss
            Assert.True(at + information.Length <= 0xA0000);
            Assert.Equal(0x41u, U32(information, 0) & 0x1041);     // the ROM fills memory sizes and map in
            Assert.Equal("kernel arg", TextAt(information, U32(information, 16) - at));
            Assert.Equal(2u, U32(information, 20));
            int list = (int)(U32(information, 24) - at);
            uint start = U32(information, list), end = U32(information, list + 4);
            Assert.Equal((0u, 3u), (start % 4096, end - start));
            Assert.Equal([7, 8, 9], modules.AsSpan((int)(start - modulesAt), 3).ToArray());
            Assert.Equal($"{module} one,two three", TextAt(information, U32(information, list + 8) - at));
            Assert.Equal(module, TextAt(information, U32(information, list + 24) - at));
            Assert.True(U32(information, 48) - at + 32 * 24 <= information.Length);
            Assert.Empty(_warnings);
        }
        finally { File.Delete(module); }
    }

    /// <summary>Section 3.3: "The bootloader … must take care not to overwrite" what it loaded. Bss included; the end
    /// of low memory (the EBDA), the stack of the ROM and the BIOS' variables left alone.</summary>
    [Theory]
    [InlineData(0x100000, 0x5000)] [InlineData(0x8000, 0x6000)] [InlineData(0x9000, 0x1000)] [InlineData(0x9010, 0x10)]
    [InlineData(0x1000, 0x9000)] [InlineData(0x8000, 0x90000)] [InlineData(0x9E000, 0x1C00)] [InlineData(0, 0x9000)]
    [InlineData(0x7000, 0x97000)]
    public void Kernel_modules_and_information_never_overlap(uint load, uint size)
    {
        string module = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(module, new byte[5000]);
            LoadMultiboot(AddressFieldsImage(load, size), new string('a', 3000), $"{module},{module}");
            byte[] information = _fwCfg.Item(FwCfgKey.InitrdData).ToArray();
            uint at = Number(FwCfgKey.InitrdAddress), list = U32(information, 24) - at;
            var taken = new List<(uint Start, uint End)>
            {
                (load, load + size), (at, at + (uint)information.Length), (0x7000, 0x7C00),
                (U32(information, (int)list), U32(information, (int)list + 4)),
                    (U32(information, (int)list + 16), U32(information, (int)list + 20)),
            };
            Assert.Equal((load, size), (Number(FwCfgKey.KernelAddress), Number(FwCfgKey.KernelSize)));
            Assert.InRange(at, 0x600u, 0x9FC00u - (uint)information.Length);
            Assert.All(taken[3..], m => Assert.True(m.Start >= 0x10_0000));
            // the kernel comes last, when the stack is needed no longer
            if (load < 0x7C00) taken.RemoveAt(2);
            foreach (var a in taken)
                foreach (var b in taken)
                    Assert.True(a == b || a.End <= b.Start || b.End <= a.Start, $"{a} over {b}");
        }
        finally { File.Delete(module); }
    }

    [Theory]
    [InlineData(0x9000, 0x97000, "no memory")] [InlineData(0xA0000, 0x1000, "no memory")]
    [InlineData(0x1000, 0x9EC00, "below 640 KiB")]
    [InlineData(0x3FF_0000, 0x20000, "larger -m")]
    public void A_Multiboot_kernel_where_no_memory_is_is_refused(uint load, uint size, string why) =>
        Assert.Contains(why, Assert.Throws<ConfigurationException>(() => LoadMultiboot(AddressFieldsImage(load, size)))
            .Message);

    [Fact]
    public void A_Multiboot_kernel_that_asks_for_a_video_mode_is_told_of_the_text_mode()
    {
        LoadMultiboot(AddressFieldsImage(flags: 7));
        byte[] information = _fwCfg.Item(FwCfgKey.InitrdData).ToArray();
        Assert.Contains("text mode", Assert.Single(_warnings));
        Assert.Equal(0x1000u, U32(information, 0) & 0x1800);
        Assert.Equal((0xB8000u, 0u, 160u, 80u, 25u),
            (U32(information, 88), U32(information, 92), U32(information, 96), U32(information, 100),
            U32(information, 104)));
        Assert.Equal((16, 2), (information[108], information[109]));
        Assert.Contains("require",
            Assert.Throws<ConfigurationException>(() => LoadMultiboot(AddressFieldsImage(flags: 8))).Message);
    }

    [Fact]
    public void A_Multiboot_ELF_image_is_laid_out_by_its_program_headers()
    {
        byte[] elf = Elf(32);
        LoadMultiboot(elf);
        byte[] block = _fwCfg.Item(FwCfgKey.KernelData).ToArray();
        // physical
        Assert.Equal((0x20_0000u, 0x20_0010u), (Number(FwCfgKey.KernelAddress), Number(FwCfgKey.KernelEntry)));
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
        var error = Assert.Throws<ConfigurationException>(() => LoadMultiboot(elf));
        Assert.StartsWith("-kernel kernel:", error.Message);
        Assert.Contains(why, error.Message);
    }

    void LoadMultiboot(byte[] kernel, string append = "", string? modules = null) =>
        MultibootImage.Load(_fwCfg, "kernel", kernel, append, modules, 64 * MiB, _warnings.Add);

    static byte[] AddressFieldsImage(uint load = 0x10_0000, uint size = 0x1000, uint flags = 0)
    {
        const uint AddressFields = 0x10000;
        flags |= AddressFields;
        byte[] image = new byte[256];
        image.AsSpan().Fill(0x90);
        uint[] header = [0x1BADB002, flags, unchecked(0u - 0x1BADB002u - flags), load, load, load + Math.Min(size, 256),
            load + size, load + 0x20];
        for (int i = 0; i < header.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(i * 4), header[i]);
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

    static string TextAt(byte[] block, uint at) =>
        Encoding.UTF8.GetString(block.AsSpan((int)at, Array.IndexOf(block, (byte)0, (int)at) - (int)at));
    uint Number(ushort key) => U32(_fwCfg.Item(key).ToArray(), 0);
    static uint U32(byte[] bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at));
}
