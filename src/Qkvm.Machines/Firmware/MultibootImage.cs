using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;

namespace Qkvm.Machines.Firmware;

/// <summary>Prepares a Multiboot kernel for the multiboot ROM: one block with its segments and modules, one low block with the
/// boot information. Spec: Multiboot Specification 0.6.96, sections 3.1 and 3.3.</summary>
public static class MultibootImage
{
    const uint HeaderMagic = 0x1BADB002;
    const int SearchLimit = 8192;
    const uint AddressesValid = 0x10000, VideoMode = 0x4;

    // Boot information: offsets and flags
    const int Flags = 0, BootDevice = 12, CommandLine = 16, ModuleCount = 20, Modules = 24, MemoryMap = 48, LoaderName = 64,
        InformationSize = 96, ModuleEntry = 16, MapRoom = 32 * 24;
    const uint HasMemory = 1, HasBootDevice = 2, HasCommandLine = 4, HasModules = 8, HasMemoryMap = 0x40, HasLoaderName = 0x200;

    const uint InformationAddress = 0x9000;                        // free below the EBDA, away from the ROM's stack
    const uint InformationLimit = 0x80000;
    const uint PageMask = 4095;

    // ELF-32
    const int ElfMachine = 18, ElfEntry = 24, ElfProgramHeaders = 28, ElfHeaderSize = 42, ElfHeaderCount = 44;
    const byte Elf64 = 2;
    const uint LoadSegment = 1;

    /// <summary>The offset of the Multiboot header, or -1.</summary>
    public static int FindHeader(ReadOnlySpan<byte> file)
    {
        for (int at = 0; at + 12 <= Math.Min(file.Length, SearchLimit); at += 4)
            if (U32(file, at) == HeaderMagic && unchecked(U32(file, at) + U32(file, at + 4) + U32(file, at + 8)) == 0) return at;
        return -1;
    }

    /// <param name="modules">-initrd: "file args,file args".</param>
    public static void Load(FwCfg fwCfg, string file, byte[] kernel, string append, string? modules, ulong belowFourGiB)
    {
        int header = FindHeader(kernel);
        uint flags = U32(kernel, header + 4);
        if ((flags & VideoMode) != 0)
            throw new ConfigurationException($"-kernel {file}: Multiboot: the kernel wants a video mode; only text mode is offered");
        Image image = (flags & AddressesValid) != 0 ? ReadAddressFields(file, kernel, header) : ReadElf(file, kernel);

        var block = new List<byte>(image.Bytes);
        (string Path, string Text)[] list = SplitModules(modules);
        var placed = new (uint Start, uint End)[list.Length];
        for (int i = 0; i < list.Length; i++)
        {
            while (((image.Address + (uint)block.Count) & PageMask) != 0) block.Add(0);
            uint start = image.Address + (uint)block.Count;
            block.AddRange(ReadModule(list[i].Path));
            placed[i] = (start, image.Address + (uint)block.Count);
        }
        if (image.Address + (ulong)block.Count > belowFourGiB)
            throw new ConfigurationException($"-kernel {file}: kernel and modules do not fit into {belowFourGiB >> 20} MiB of memory, give a larger -m");

        byte[] information = Information($"{file} {append}".TrimEnd(), list, placed);
        fwCfg.Add32(FwCfgKey.KernelEntry, image.Entry);
        fwCfg.Add32(FwCfgKey.KernelAddress, image.Address);
        fwCfg.Add32(FwCfgKey.KernelSize, (uint)block.Count);
        fwCfg.Add(FwCfgKey.KernelData, block.ToArray());
        fwCfg.Add32(FwCfgKey.InitrdAddress, InformationAddress);
        fwCfg.Add32(FwCfgKey.InitrdSize, (uint)information.Length);
        fwCfg.Add(FwCfgKey.InitrdData, information);
    }

    readonly record struct Image(uint Address, uint Entry, byte[] Bytes);

    /// <summary>Section 3.1.3 "The address fields of Multiboot header".</summary>
    static Image ReadAddressFields(string file, byte[] kernel, int header)
    {
        if (header + 32 > kernel.Length) throw Bad(file, "the header is cut off");
        uint headerAddress = U32(kernel, header + 12), load = U32(kernel, header + 16), loadEnd = U32(kernel, header + 20),
            bssEnd = U32(kernel, header + 24), entry = U32(kernel, header + 28);
        long from = header - ((long)headerAddress - load);
        if (headerAddress < load || from < 0 || from > kernel.Length) throw Bad(file, "its load address lies behind its header");
        long size = loadEnd == 0 ? kernel.Length - from : (long)loadEnd - load;
        if (size < 0 || from + size > kernel.Length) throw Bad(file, "its load end address lies outside the file");
        long total = Math.Max(size, bssEnd == 0 ? 0 : (long)bssEnd - load);
        if (load + total > uint.MaxValue || total > int.MaxValue) throw Bad(file, "its addresses exceed the address space");
        byte[] bytes = new byte[total];
        kernel.AsSpan((int)from, (int)size).CopyTo(bytes);
        return new Image(load, entry, bytes);
    }

    static Image ReadElf(string file, byte[] kernel)
    {
        if (kernel.Length < 52 || !kernel.AsSpan(0, 4).SequenceEqual("\u007fELF"u8)) throw Bad(file, "neither address fields nor an ELF header");
        if (kernel[4] == Elf64) throw Bad(file, "an x86-64 ELF image; give a 32-bit one");
        const ushort Intel386 = 3;
        if (BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ElfMachine)) != Intel386) throw Bad(file, "an ELF image for another processor");
        uint table = U32(kernel, ElfProgramHeaders);
        int size = BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ElfHeaderSize));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ElfHeaderCount));
        if (size < 32 || table + (ulong)size * (ulong)count > (ulong)kernel.Length) throw Bad(file, "its program headers lie outside the file");
        ulong low = ulong.MaxValue, high = 0;
        for (int i = 0; i < count; i++)
        {
            int at = (int)table + i * size;
            if (U32(kernel, at) != LoadSegment || U32(kernel, at + 20) == 0) continue;
            if (U32(kernel, at + 4) + (ulong)U32(kernel, at + 16) > (ulong)kernel.Length || U32(kernel, at + 16) > U32(kernel, at + 20))
                throw Bad(file, $"its segment {i} lies outside the file");
            low = Math.Min(low, U32(kernel, at + 12));
            high = Math.Max(high, U32(kernel, at + 12) + (ulong)U32(kernel, at + 20));
        }
        if (low >= high || high > uint.MaxValue || high - low > int.MaxValue) throw Bad(file, "it has no loadable segments, or too large ones");
        byte[] bytes = new byte[high - low];
        for (int i = 0; i < count; i++)
        {
            int at = (int)table + i * size;
            if (U32(kernel, at) != LoadSegment) continue;
            kernel.AsSpan((int)U32(kernel, at + 4), (int)U32(kernel, at + 16)).CopyTo(bytes.AsSpan((int)(U32(kernel, at + 12) - low)));
        }
        uint entry = U32(kernel, ElfEntry);
        return new Image((uint)low, PhysicalEntry(kernel, table, size, count, entry), bytes);
    }

    /// <summary>An entry that is a virtual address becomes physical by its segment.</summary>
    static uint PhysicalEntry(byte[] kernel, uint table, int size, int count, uint entry)
    {
        for (int i = 0; i < count; i++)
        {
            int at = (int)table + i * size;
            uint linear = U32(kernel, at + 8);
            if (U32(kernel, at) == LoadSegment && entry >= linear && entry - linear < U32(kernel, at + 20))
                return entry - linear + U32(kernel, at + 12);
        }
        return entry;
    }

    /// <summary>Section 3.3; the ROM fills the memory sizes and the map in.</summary>
    static byte[] Information(string commandLine, (string Path, string Text)[] list, (uint Start, uint End)[] placed)
    {
        var block = new List<byte>(new byte[InformationSize]);
        int map = Reserve(block, MapRoom);
        int modules = Reserve(block, list.Length * ModuleEntry);
        uint line = AddText(block, commandLine), name = AddText(block, "qkvm");
        uint[] texts = [.. list.Select(m => AddText(block, m.Text))];
        if (InformationAddress + block.Count > InformationLimit)
            throw new ConfigurationException($"-append: {commandLine.Length} bytes are too many for a Multiboot kernel");
        byte[] bytes = [.. block];
        Put(bytes, Flags, HasMemory | HasBootDevice | HasCommandLine | HasMemoryMap | HasLoaderName | (list.Length > 0 ? HasModules : 0));
        Put(bytes, BootDevice, 0x8000_FFFF);                       // first disk, no partition
        Put(bytes, CommandLine, line);
        Put(bytes, ModuleCount, (uint)list.Length);
        Put(bytes, Modules, InformationAddress + (uint)modules);
        Put(bytes, MemoryMap, InformationAddress + (uint)map);
        Put(bytes, LoaderName, name);
        for (int i = 0; i < list.Length; i++)
        {
            Put(bytes, modules + i * ModuleEntry, placed[i].Start);
            Put(bytes, modules + i * ModuleEntry + 4, placed[i].End);
            Put(bytes, modules + i * ModuleEntry + 8, texts[i]);
        }
        return bytes;
    }

    static int Reserve(List<byte> block, int size)
    {
        int at = block.Count;
        block.AddRange(new byte[size]);
        return at;
    }

    static uint AddText(List<byte> block, string text)
    {
        uint address = InformationAddress + (uint)block.Count;
        block.AddRange(Encoding.UTF8.GetBytes(text + "\0"));
        return address;
    }

    static (string Path, string Text)[] SplitModules(string? modules) => modules is null ? [] :
        [.. modules.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(m => (m.Split(' ')[0], m))];

    static byte[] ReadModule(string path)
    {
        try { return File.ReadAllBytes(path); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-initrd: cannot read the module {path}: {e.Message}", e);
        }
    }

    static ConfigurationException Bad(string file, string why) => new($"-kernel {file}: not a Multiboot image to boot ({why})");

    static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
    static void Put(byte[] bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);
}
