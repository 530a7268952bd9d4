using System.Buffers.Binary;
using System.Text;
using static Qkvm.Machines.Firmware.LinuxImage;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>Prepares a bzImage for its 32-bit or 64-bit entry, without its real-mode code, and unpacked where
/// <see cref="KernelPayload"/> can. Spec: Linux, Documentation/x86/boot.rst and zero-page.rst.</summary>
/// <remarks>Deviation: a kernel that is unpacked here lies where it was linked for; its own code would choose its place
/// at random. What it randomizes later, its memory regions and stacks, it does.</remarks>
public static class LinuxKernel
{
    // struct boot_params beside the setup header
    const int AcpiRsdp = 0x070, E820Entries = 0x1E8, E820Table = 0x2D0, E820EntrySize = 20, Size = 4096;
    const int HeaderStart = 0x1F1, HeaderJump = 0x201, HeaderBase = 0x202, CodeStart32 = 0x214;
    const int MostRanges = 128;

    const ushort WithPayload = 0x208, Has64BitEntry = 1;           // XLF_KERNEL_64
    const byte RandomizesPlaces = 2;                               // KASLR_FLAG of loadflags
    const uint Entry64 = 0x200;
    const ulong LowestKernel = 1 << 20;

    /// <exception cref="ConfigurationException">It is no such kernel, or does not fit.</exception>
    public static BootImage Build(byte[] kernel, BootInformation information)
    {
        string owner = $"-kernel {information.File}";
        if (Refusal(kernel) is { } why) throw new ConfigurationException($"{owner}: not a Linux kernel ({why})");
        ushort version = VersionOf(kernel);
        if (version < WithCommandLinePointer || !IsHigh(kernel))
            throw new ConfigurationException($"{owner}: only its real-mode code can start this kernel (a zImage, or "
                + "from before protocol 2.02); use -machine pc, or firmware: -bios FILE");
        int setupSize = SetupSize(kernel);
        ulong end = KernelEnd(kernel, version, HighAddress, (uint)(kernel.Length - setupSize));
        if (end > information.MemoryEnd)
            throw new ConfigurationException($"{owner}: the kernel needs the memory up to {(end >> 20) + 1} MiB, give "
                + "a larger -m");
        byte[] parameters = Parameters(kernel, information);
        var parts = new List<ElfImage.Segment>();
        BootEntry entry = Unpacked(kernel, version, setupSize, end, parts)
            ?? Packed(kernel, version, setupSize, parts);
        if (entry.Mode == EntryMode.Linux64 && entry.Address != HighAddress + Entry64
            && !information.CommandLine.Split(' ').Contains("nokaslr")) parameters[LoadFlags] |= RandomizesPlaces;
        AddCommandLine(kernel, version, information, parts);
        if (information.Initrd is { } initrd)
        {
            uint at = InitrdAddress(kernel, version, information.InitrdFile!, initrd.Length, end,
                information.MemoryEnd);
            BinaryPrimitives.WriteUInt32LittleEndian(parameters.AsSpan(RamdiskImage), at);
            BinaryPrimitives.WriteUInt32LittleEndian(parameters.AsSpan(RamdiskSize), (uint)initrd.Length);
            parts.Add(BootImage.Part(at, initrd));
        }
        parts.Add(BootImage.Part(BootImage.InformationAddress, parameters));
        return new BootImage(parts, entry);
    }

    /// <summary>The kernel as its linker made it, entered where its own code would jump to. Null where it cannot be
    /// had.</summary>
    static BootEntry? Unpacked(byte[] kernel, ushort version, int setupSize, ulong end, List<ElfImage.Segment> parts)
    {
        if (version < WithPayload || KernelPayload.Unpack(kernel, setupSize, limit: end) is not { } unpacked
            || !ElfImage.HasMagic(unpacked)) return null;
        ElfImage image;
        try { image = ElfImage.Read(unpacked); }
        catch (InvalidDataException) { return null; }
        bool isInside = image.Segments.Any(s => image.Entry >= s.Address && image.Entry - s.Address < s.Size);
        if (!isInside || image.End > end || image.Segments.Min(s => s.Address) < LowestKernel) return null;
        parts.AddRange(image.Segments);
        return new BootEntry(image.Is64Bit ? EntryMode.Linux64 : EntryMode.Linux32, image.Entry,
            BootImage.InformationAddress);
    }

    /// <summary>As it is in the file: it unpacks itself.</summary>
    static BootEntry Packed(byte[] kernel, ushort version, int setupSize, List<ElfImage.Segment> parts)
    {
        parts.Add(BootImage.Part(HighAddress, kernel.AsMemory(setupSize)));
        bool is64 = version >= WithExtendedFlags
            && (BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(ExtendedFlags)) & Has64BitEntry) != 0;
        return new BootEntry(is64 ? EntryMode.Linux64 : EntryMode.Linux32, is64 ? HighAddress + Entry64 : HighAddress,
            BootImage.InformationAddress);
    }

    /// <summary>The zero page: zeros, the setup header of the file, and what a boot loader fills in.</summary>
    static byte[] Parameters(byte[] kernel, BootInformation information)
    {
        byte[] page = new byte[Size];
        int headerEnd = Math.Min(HeaderBase + kernel[HeaderJump], E820Table);
        kernel.AsSpan(HeaderStart, headerEnd - HeaderStart).CopyTo(page.AsSpan(HeaderStart));
        page[TypeOfLoader] = LoaderType;
        if (VideoModeOf(information.CommandLine) is { } mode)
            BinaryPrimitives.WriteUInt16LittleEndian(page.AsSpan(VideoMode), mode);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(CodeStart32), HighAddress);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(CommandLine), BootImage.CommandLineAddress);
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(AcpiRsdp), information.Rsdp);
        Span<byte> table = page.AsSpan(E820Table);
        int count = Math.Min(information.Map.Count, MostRanges);
        page[E820Entries] = (byte)count;
        for (int i = 0; i < count; i++)
        {
            (ulong address, ulong length, uint type) = information.Map[i];
            BinaryPrimitives.WriteUInt64LittleEndian(table, address);
            BinaryPrimitives.WriteUInt64LittleEndian(table[8..], length);
            BinaryPrimitives.WriteUInt32LittleEndian(table[16..], type);
            table = table[E820EntrySize..];
        }
        return page;
    }

    static void AddCommandLine(byte[] kernel, ushort version, BootInformation information,
        List<ElfImage.Segment> parts)
    {
        byte[] line = Encoding.UTF8.GetBytes(information.CommandLine + "\0");
        uint limit = version >= WithCommandLineMax
            ? BinaryPrimitives.ReadUInt32LittleEndian(kernel.AsSpan(CommandLineMax)) : OldCommandLineMax;
        limit = Math.Min(limit, BootImage.LongestCommandLine - 1);
        if (line.Length - 1 > limit)
            throw new ConfigurationException($"-append: {line.Length - 1} bytes; this kernel takes up to {limit}");
        parts.Add(BootImage.Part(BootImage.CommandLineAddress, line));
    }
}
