using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Firmware.Boot;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Firmware;

/// <summary>Against Linux's boot.rst and zero-page.rst, Xen's start_info.h, and the Multiprocessor
/// Specification.</summary>
public class DirectBootTests
{
    const ulong MemoryEnd = 256 << 20;
    const uint LinkedAt = 0x100_0000;

    static readonly MemoryRange[] Map = [new(0, 0x9FC00, 1), new(0x9FC00, 0x60400, 2), new(0x10_0000, 0xFF0_0000, 1)];

    static BootInformation Information(string commandLine = "console=ttyS0", byte[]? initrd = null,
        ulong end = MemoryEnd) =>
        new("vmlinuz", commandLine, initrd, initrd == null ? null : "initrd", Map, end, 0xE0000);

    /// <summary>One segment of "CODE" and some zeros, and a note with a PVH entry.</summary>
    static byte[] Elf(bool is64, uint address = LinkedAt, uint? pvhEntry = null)
    {
        byte[] file = new byte[0x200];
        "\u007fELF"u8.CopyTo(file);
        file[4] = (byte)(is64 ? 2 : 1);
        Put(16, 2, 2);
        Put(18, is64 ? 62 : 3u, 2);
        int word = is64 ? 8 : 4, table = is64 ? 64 : 52, header = is64 ? 56 : 32;
        Put(24, address + 2, word);
        Put(is64 ? 32 : 28, (uint)table, word);
        Put(is64 ? 54 : 42, (uint)header, 2);
        Put(is64 ? 56 : 44, 2, 2);
        Header(table, 1, 0x180, 4, 0x2000);
        Header(table + header, 4, 0x1A0, 20, 20);
        "CODE"u8.CopyTo(file.AsSpan(0x180));
        Put(0x1A0, 4, 4);
        Put(0x1A4, pvhEntry == null ? 0 : 4u, 4);
        Put(0x1A8, pvhEntry == null ? 99 : 18u, 4);
        "Xen"u8.CopyTo(file.AsSpan(0x1AC));
        Put(0x1B0, pvhEntry ?? 0, 4);
        return file;

        void Header(int at, uint type, uint offset, uint length, uint size)
        {
            Put(at, type, 4);
            Put(is64 ? at + 8 : at + 4, offset, word);
            Put(is64 ? at + 24 : at + 12, address, word);
            Put(is64 ? at + 32 : at + 16, length, word);
            Put(is64 ? at + 40 : at + 20, size, word);
        }

        void Put(int at, uint value, int size)
        {
            for (int i = 0; i < size && i < 4; i++) file[at + i] = (byte)(value >> i * 8);
        }
    }

    static byte[] Gzip(byte[] data)
    {
        var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true)) gzip.Write(data);
        return packed.ToArray();
    }

    /// <summary>A bzImage of protocol 2.15 with 1 KiB of setup code and this payload behind 512 bytes of
    /// code.</summary>
    static byte[] BzImage(byte[] payload, bool is64 = true)
    {
        byte[] kernel = new byte[0x400 + 0x200 + payload.Length];
        kernel[0x1F1] = 1;
        kernel[0x1FE] = 0x55;
        kernel[0x1FF] = 0xAA;
        kernel[0x201] = 0x6A;                                      // the header ends at 26Ch
        "HdrS"u8.CopyTo(kernel.AsSpan(0x202));
        BinaryPrimitives.WriteUInt16LittleEndian(kernel.AsSpan(0x206), 0x20F);
        kernel[0x211] = 1;                                         // LOADED_HIGH
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x22C), 0x7FFF_FFFF);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x230), 0x20_0000);
        kernel[0x234] = 1;
        kernel[0x236] = (byte)(is64 ? 3 : 0);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x238), 2047);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x248), 0x200);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x24C), (uint)payload.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(kernel.AsSpan(0x258), LinkedAt);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x260), 0x10_0000);
        payload.CopyTo(kernel, 0x600);
        return kernel;
    }

    static ReadOnlySpan<byte> At(BootImage image, ulong address) =>
        image.Segments.Single(s => s.Address == address).Bytes.Span;

    [Theory]
    [InlineData(true, EntryMode.Linux64)]
    [InlineData(false, EntryMode.Linux32)]
    public void A_kernel_in_a_known_packing_is_unpacked_and_entered_where_it_was_linked(bool is64, EntryMode mode)
    {
        BootImage image = LinuxKernel.Build(BzImage(Gzip(Elf(is64)), is64), Information());
        Assert.Equal(new BootEntry(mode, LinkedAt + 2, 0x7000), image.Entry);
        ElfImage.Segment code = image.Segments.Single(s => s.Address == LinkedAt);
        Assert.Equal("CODE"u8, code.Bytes.Span);
        Assert.Equal(0x2000u, code.Size);
    }

    [Theory]
    [InlineData(true, EntryMode.Linux64, 0x10_0200)]
    [InlineData(false, EntryMode.Linux32, 0x10_0000)]
    public void A_kernel_in_another_packing_unpacks_itself(bool is64, EntryMode mode, ulong entry)
    {
        byte[] kernel = BzImage([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0, 0, 0, 0, 1, 2, 3], is64);
        BootImage image = LinuxKernel.Build(kernel, Information());
        Assert.Equal(new BootEntry(mode, entry, 0x7000), image.Entry);
        Assert.Equal(kernel.AsSpan(0x400), At(image, 0x10_0000));
    }

    [Theory]
    [InlineData(LinkedAt + 0x10_0000u)]                            // beyond what the header says it needs
    [InlineData(0x8000u)]                                          // over what it is told
    public void A_payload_that_lies_elsewhere_is_left_to_the_kernel(uint address) =>
        Assert.Equal(0x10_0200u, LinuxKernel.Build(BzImage(Gzip(Elf(true, address))), Information()).Entry.Address);

    [Fact]
    public void A_damaged_payload_is_left_to_the_kernel()
    {
        byte[] payload = Gzip(Elf(true));
        payload[20] ^= 0xFF;
        payload[21] ^= 0xFF;
        Assert.Equal(0x10_0200u, LinuxKernel.Build(BzImage(payload), Information()).Entry.Address);
    }

    [Fact]
    public void The_zero_page_holds_the_header_and_what_a_boot_loader_fills_in()
    {
        byte[] kernel = BzImage(Gzip(Elf(true)));
        BootImage image = LinuxKernel.Build(kernel, Information("console=ttyS0 root=/dev/vda", new byte[5000]));
        ReadOnlySpan<byte> page = At(image, 0x7000);
        Assert.Equal(kernel.AsSpan(0x202, 14), page.Slice(0x202, 14));
        Assert.Equal(kernel.AsSpan(0x230, 0x38), page.Slice(0x230, 0x38));
        Assert.Equal(0xB0, page[0x210]);
        Assert.Equal(0xE0000u, BinaryPrimitives.ReadUInt64LittleEndian(page[0x70..]));
        uint line = BinaryPrimitives.ReadUInt32LittleEndian(page[0x228..]);
        Assert.Equal("console=ttyS0 root=/dev/vda\0"u8, At(image, line));
        uint initrd = BinaryPrimitives.ReadUInt32LittleEndian(page[0x218..]);
        Assert.Equal(5000u, BinaryPrimitives.ReadUInt32LittleEndian(page[0x21C..]));
        Assert.Equal(5000, At(image, initrd).Length);
        Assert.Equal(0u, initrd % 4096);
        Assert.InRange(initrd + 5000, MemoryEnd - 8192, MemoryEnd);
        Assert.Equal(3, page[0x1E8]);
        Assert.Equal(0x9FC00u, BinaryPrimitives.ReadUInt64LittleEndian(page[(0x2D0 + 20)..]));
        Assert.Equal(0x60400u, BinaryPrimitives.ReadUInt64LittleEndian(page[(0x2D0 + 28)..]));
        Assert.Equal(2u, BinaryPrimitives.ReadUInt32LittleEndian(page[(0x2D0 + 36)..]));
    }

    [Theory]
    [InlineData("console=ttyS0", 3)]
    [InlineData("nokaslr console=ttyS0", 1)]
    public void The_kernel_may_still_place_its_regions_at_random(string commandLine, byte flags) => Assert.Equal(flags,
        At(LinuxKernel.Build(BzImage(Gzip(Elf(true))), Information(commandLine)), 0x7000)[0x211]);

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        byte[] kernel = BzImage(Gzip(Elf(true)));
        Assert.Contains("give a larger -m", Refused(Information(end: 16 << 20)), StringComparison.Ordinal);
        Assert.Contains("give a larger -m", Refused(Information(initrd: new byte[64], end: 0x110_0000)),
            StringComparison.Ordinal);
        Assert.Contains("takes up to 2047", Refused(Information(new string('x', 2048))), StringComparison.Ordinal);

        string Refused(BootInformation information) =>
            Assert.Throws<ConfigurationException>(() => LinuxKernel.Build(kernel, information)).Message;
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_ELF_kernel_is_entered_where_its_note_says(bool is64)
    {
        BootImage image = PvhKernel.Build(Elf(is64, pvhEntry: LinkedAt + 3), Information(initrd: new byte[100]));
        Assert.Equal(new BootEntry(EntryMode.Pvh, LinkedAt + 3, 0x7000), image.Entry);
        ReadOnlySpan<byte> info = At(image, 0x7000);
        Assert.Equal(0x336EC578u, BinaryPrimitives.ReadUInt32LittleEndian(info));
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(info[4..]));
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(info[12..]));
        int modules = (int)(BinaryPrimitives.ReadUInt64LittleEndian(info[16..]) - 0x7000);
        Assert.Equal(100, At(image, BinaryPrimitives.ReadUInt64LittleEndian(info[modules..])).Length);
        Assert.Equal("console=ttyS0\0"u8, At(image, BinaryPrimitives.ReadUInt64LittleEndian(info[24..])));
        Assert.Equal(0xE0000u, BinaryPrimitives.ReadUInt64LittleEndian(info[32..]));
        int map = (int)(BinaryPrimitives.ReadUInt64LittleEndian(info[40..]) - 0x7000);
        Assert.Equal(3u, BinaryPrimitives.ReadUInt32LittleEndian(info[48..]));
        Assert.Equal(0x9FC00u, BinaryPrimitives.ReadUInt64LittleEndian(info[(map + 24)..]));
        Assert.Equal(2u, BinaryPrimitives.ReadUInt32LittleEndian(info[(map + 40)..]));
    }

    [Fact]
    public void An_ELF_file_without_such_a_note_is_refused() =>
        Assert.Contains("Error loading uncompressed kernel without PVH ELF Note",
            Assert.Throws<ConfigurationException>(() => PvhKernel.Build(Elf(true), Information())).Message,
            StringComparison.Ordinal);

    [Fact]
    public void No_cut_or_changed_ELF_file_does_more_than_be_refused()
    {
        byte[] whole = Elf(true, pvhEntry: LinkedAt);
        for (int length = 0; length < whole.Length; length++) Try(whole[..length]);
        for (int at = 4; at < 0xC0; at++)
            foreach (byte value in (byte[])[0, 1, 0x7F, 0x80, 0xFF])
            {
                byte[] changed = [.. whole];
                changed[at] = value;
                Try(changed);
            }

        static void Try(byte[] file)
        {
            if (!ElfImage.HasMagic(file)) return;
            try { PvhKernel.Build(file, Information()); }
            catch (ConfigurationException) { }
        }
    }

    [Fact]
    public void The_processor_starts_in_long_mode_over_pages_that_map_one_to_one()
    {
        var entry = new BootEntry(EntryMode.Linux64, LinkedAt, 0x7000);
        CpuRegisters registers = Entered(entry);
        Assert.True(registers.Is64Bit && registers.IsProtected);
        Assert.Equal(LinkedAt, registers.Rip);
        Assert.Equal(0x7000u, registers.General[6]);
        Assert.Equal(0x10, registers.Segments[CpuRegisters.Cs].Selector);
        Assert.Equal(0x18, registers.Segments[CpuRegisters.Ds].Selector);
        Assert.Equal(0u, registers.Rflags & 0x200);
        byte[] memory = new byte[0x10000];
        foreach (var (address, bytes) in entry.Tables) bytes.CopyTo(memory, (int)address);
        foreach (ulong address in (ulong[])[0, 0x7000, LinkedAt, 0xFEB0_0000, uint.MaxValue])
            Assert.Equal(address, Translate(address));

        ulong Translate(ulong linear)
        {
            ulong table = registers.Cr3;
            for (int shift = 39; shift >= 21; shift -= 9)
            {
                ulong item = BinaryPrimitives.ReadUInt64LittleEndian(memory.AsSpan((int)table
                    + (int)(linear >> shift & 511) * 8));
                Assert.Equal(3u, item & 3);
                if ((item & 0x80) != 0) return item & ~0x1FFFFFUL | linear & 0x1FFFFF;
                table = item & ~0xFFFUL;
            }
            throw new InvalidOperationException("no page");
        }
    }

    [Theory]
    [InlineData(EntryMode.Pvh, 3)]
    [InlineData(EntryMode.Linux32, 6)]
    public void Or_in_protected_mode_with_flat_segments(EntryMode mode, int register)
    {
        CpuRegisters registers = Entered(new BootEntry(mode, LinkedAt, 0x7000));
        Assert.True(registers.IsProtected && !registers.IsLongMode);
        Assert.Equal(0u, registers.Cr0 >> 31);
        Assert.Equal(0x7000u, registers.General[register]);
        Assert.All(new[] { CpuRegisters.Cs, CpuRegisters.Ds, CpuRegisters.Es, CpuRegisters.Ss }, segment =>
            Assert.Equal((0ul, uint.MaxValue), (registers.Segments[segment].Base, registers.Segments[segment].Limit)));
    }

    static CpuRegisters Entered(BootEntry entry)
    {
        using var accelerator = new FakeAccelerator();
        IVCpu cpu = accelerator.CreateVCpu(0, new CpuSetup("max", [], 0, 1, 1, 1));
        entry.Enter(cpu);
        return cpu.ReadRegisters();
    }

    [Fact]
    public void Tables_are_placed_linked_and_summed_as_firmware_would()
    {
        AcpiTables.Files files = AcpiTables.Build(new AcpiPlatform
        {
            ApicIds = [0, 1],
            IsCpuPresent = static _ => true,
            Reduced = new ReducedHardware(0xFEA0_0200, 0xFEA0_0201, 0xFEA0_0202, 0x42, HasRtc: true),
            IoApics = 2,
            Hpet = false,
            Tree = new QBus("main-system-bus", BusKind.System),
        });
        var placed = new PlacedTables(files, 0xE_0000, 0x10_0000);
        byte[] memory = new byte[0x10_0000];
        foreach (ElfImage.Segment part in placed.Parts) part.Bytes.Span.CopyTo(memory.AsSpan((int)part.Address));
        Assert.Equal("RSD PTR "u8, memory.AsSpan((int)placed.Rsdp, 8));
        Assert.Equal(0, Sum(memory.AsSpan((int)placed.Rsdp, 36)));
        int xsdt = (int)BinaryPrimitives.ReadUInt64LittleEndian(memory.AsSpan((int)placed.Rsdp + 24));
        var names = new List<string>();
        for (int at = xsdt + 36; at < xsdt + Length(xsdt); at += 8)
        {
            int table = (int)BinaryPrimitives.ReadUInt64LittleEndian(memory.AsSpan(at));
            names.Add(Encoding.ASCII.GetString(memory, table, 4));
            Assert.Equal(0, Sum(memory.AsSpan(table, Length(table))));
            if (names[^1] != "FACP") continue;
            Assert.Equal(268, Length(table));
            Assert.Equal(1 << 20, BinaryPrimitives.ReadInt32LittleEndian(memory.AsSpan(table + 112)) & 1 << 20);
            Assert.Equal(0xFEA0_0202u, BinaryPrimitives.ReadUInt64LittleEndian(memory.AsSpan(table + 120)));
            Assert.Equal(0xFEA0_0200u, BinaryPrimitives.ReadUInt64LittleEndian(memory.AsSpan(table + 248)));
            int dsdt = (int)BinaryPrimitives.ReadUInt64LittleEndian(memory.AsSpan(table + 140));
            Assert.Equal("DSDT"u8, memory.AsSpan(dsdt, 4));
            Assert.Equal(0, Sum(memory.AsSpan(dsdt, Length(dsdt))));
        }
        Assert.Equal(["FACP", "APIC"], names);

        int Length(int table) => BinaryPrimitives.ReadInt32LittleEndian(memory.AsSpan(table + 4));
    }

    [Fact]
    public void The_multiprocessor_table_sums_to_zero_and_counts_its_entries()
    {
        byte[] bytes = MpTable.Build(0xF_0000, [0, 1, 2]);
        Assert.Equal("_MP_"u8, bytes.AsSpan(0, 4));
        Assert.Equal(0, Sum(bytes.AsSpan(0, 16)));
        Assert.Equal(0xF_0010u, BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4)));
        ReadOnlySpan<byte> table = bytes.AsSpan(16);
        Assert.Equal("PCMP"u8, table[..4]);
        Assert.Equal(table.Length, BinaryPrimitives.ReadUInt16LittleEndian(table[4..]));
        Assert.Equal(0, Sum(table));
        int count = 0, at = 44;
        while (at < table.Length)
        {
            at += table[at] == 0 ? 20 : 8;
            count++;
        }
        Assert.Equal(table.Length, at);
        Assert.Equal(count, BinaryPrimitives.ReadUInt16LittleEndian(table[34..]));
    }

    static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes) sum += value;
        return sum;
    }
}
