using System.Buffers.Binary;

namespace Qkvm.Machines.Firmware;

/// <summary>A Multiboot kernel as it lies in memory: where, from where it runs, and its bytes with its bss. Spec:
/// Multiboot Specification 0.6.96, section 3.1.3; System V ABI, "Object files".</summary>
readonly record struct MultibootKernel(uint Address, uint Entry, byte[] Bytes)
{
    // ELF-32
    const int ElfMachine = 18, ElfEntry = 24, ElfProgramHeaders = 28, ElfHeaderSize = 42, ElfHeaderCount = 44;
    const byte Elf64 = 2;
    const uint LoadSegment = 1;

    public uint End => Address + (uint)Bytes.Length;

    /// <summary>Section 3.1.3 "The address fields of Multiboot header".</summary>
    public static MultibootKernel ReadAddressFields(string file, byte[] kernel, int header)
    {
        if (header + 32 > kernel.Length) throw Bad(file, "the header is cut off");
        uint headerAddress = U32(kernel, header + 12), load = U32(kernel, header + 16),
            loadEnd = U32(kernel, header + 20),
            bssEnd = U32(kernel, header + 24), entry = U32(kernel, header + 28);
        long from = header - ((long)headerAddress - load);
        if (headerAddress < load || from < 0 || from > kernel.Length)
            throw Bad(file, "its load address lies behind its header");
        long size = loadEnd == 0 ? kernel.Length - from : (long)loadEnd - load;
        if (size < 0 || from + size > kernel.Length) throw Bad(file, "its load end address lies outside the file");
        long total = Math.Max(size, bssEnd == 0 ? 0 : (long)bssEnd - load);
        if (load + total > uint.MaxValue || total > int.MaxValue)
            throw Bad(file, "its addresses exceed the address space");
        byte[] bytes = new byte[total];
        kernel.AsSpan((int)from, (int)size).CopyTo(bytes);
        return new MultibootKernel(load, entry, bytes);
    }

    public static MultibootKernel ReadElf(string file, byte[] kernel)
    {
        if (kernel.Length < 52 || !kernel.AsSpan(0, 4).SequenceEqual("\u007fELF"u8))
            throw Bad(file, "neither address fields nor an ELF header");
        if (kernel[4] == Elf64) throw Bad(file, "an x86-64 ELF image; give a 32-bit one");
        const ushort Intel386 = 3;
        if (BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ElfMachine)) != Intel386)
            throw Bad(file, "an ELF image for another processor");
        uint table = U32(kernel, ElfProgramHeaders);
        int size = BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ElfHeaderSize));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ElfHeaderCount));
        if (size < 32 || table + (ulong)size * (ulong)count > (ulong)kernel.Length)
            throw Bad(file, "its program headers lie outside the file");
        ulong low = ulong.MaxValue, high = 0;
        for (int i = 0; i < count; i++)
        {
            int at = (int)table + i * size;
            if (U32(kernel, at) != LoadSegment || U32(kernel, at + 20) == 0) continue;
            if (U32(kernel, at + 4) + (ulong)U32(kernel, at + 16) > (ulong)kernel.Length
                || U32(kernel, at + 16) > U32(kernel, at + 20))
                throw Bad(file, $"its segment {i} lies outside the file");
            low = Math.Min(low, U32(kernel, at + 12));
            high = Math.Max(high, U32(kernel, at + 12) + (ulong)U32(kernel, at + 20));
        }
        if (low >= high || high > uint.MaxValue || high - low > int.MaxValue)
            throw Bad(file, "it has no loadable segments, or too large ones");
        byte[] bytes = new byte[high - low];
        for (int i = 0; i < count; i++)
        {
            int at = (int)table + i * size;
            if (U32(kernel, at) != LoadSegment || U32(kernel, at + 20) == 0) continue;
            kernel.AsSpan((int)U32(kernel, at + 4), (int)U32(kernel, at + 16))
                .CopyTo(bytes.AsSpan((int)(U32(kernel, at + 12) - low)));
        }
        uint entry = U32(kernel, ElfEntry);
        return new MultibootKernel((uint)low, PhysicalEntry(kernel, table, size, count, entry), bytes);
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

    static Exception Bad(string file, string why) => MultibootImage.Bad(file, why);
    static uint U32(ReadOnlySpan<byte> bytes, int at) => MultibootImage.U32(bytes, at);
}
