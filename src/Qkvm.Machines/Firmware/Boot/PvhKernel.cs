using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>Prepares an ELF kernel that can be entered directly. Spec: Xen, docs/misc/pvh.pandoc and
/// public/arch-x86/hvm/start_info.h.</summary>
public static class PvhKernel
{
    const uint EntryNote = 18;                                     // XEN_ELFNOTE_PHYS32_ENTRY

    // struct hvm_start_info
    const uint Magic = 0x336EC578;
    const int ModuleCount = 12, ModuleList = 16, CommandLine = 24, Rsdp = 32, MemoryMap = 40, MapEntries = 48,
        StartInfoSize = 56;
    const int ModuleSize = 32;                                     // struct hvm_modlist_entry
    const int MapEntrySize = 24;                                   // struct hvm_memmap_table_entry
    const uint PageMask = 4095;

    /// <exception cref="ConfigurationException">It has no such entry, or does not fit.</exception>
    public static BootImage Build(ReadOnlyMemory<byte> kernel, BootInformation information)
    {
        string owner = $"-kernel {information.File}";
        ElfImage image;
        try { image = ElfImage.Read(kernel); }
        catch (InvalidDataException e) { throw new ConfigurationException($"{owner}: {e.Message}", e); }
        if (image.Note("Xen", EntryNote) is not { Length: >= 4 } note)
            throw new ConfigurationException($"{owner}: Error loading uncompressed kernel without PVH ELF Note; give a "
                + "bzImage, or build Linux with CONFIG_PVH");
        uint entry = BinaryPrimitives.ReadUInt32LittleEndian(note.Span);
        if (image.End > information.MemoryEnd)
            throw new ConfigurationException($"{owner}: the kernel needs the memory up to "
                + $"{(image.End >> 20) + 1} MiB, give a larger -m");
        var parts = new List<ElfImage.Segment>(image.Segments);
        byte[] start = new byte[StartInfoSize + ModuleSize + information.Map.Count * MapEntrySize];
        Span<byte> info = start;
        BinaryPrimitives.WriteUInt32LittleEndian(info, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(info[4..], 1);    // version
        ulong at = BootImage.InformationAddress;
        if (information.Initrd is { } initrd)
        {
            ulong address = InitrdAddress(information, initrd.Length, image.End);
            parts.Add(BootImage.Part(address, initrd));
            BinaryPrimitives.WriteUInt32LittleEndian(info[ModuleCount..], 1);
            BinaryPrimitives.WriteUInt64LittleEndian(info[ModuleList..], at + StartInfoSize);
            BinaryPrimitives.WriteUInt64LittleEndian(info[StartInfoSize..], address);
            BinaryPrimitives.WriteUInt64LittleEndian(info[(StartInfoSize + 8)..], (ulong)initrd.Length);
        }
        BinaryPrimitives.WriteUInt64LittleEndian(info[CommandLine..], BootImage.CommandLineAddress);
        BinaryPrimitives.WriteUInt64LittleEndian(info[Rsdp..], information.Rsdp);
        BinaryPrimitives.WriteUInt64LittleEndian(info[MemoryMap..], at + StartInfoSize + ModuleSize);
        BinaryPrimitives.WriteUInt32LittleEndian(info[MapEntries..], (uint)information.Map.Count);
        Span<byte> map = info[(StartInfoSize + ModuleSize)..];
        foreach (MemoryRange range in information.Map)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(map, range.Address);
            BinaryPrimitives.WriteUInt64LittleEndian(map[8..], range.Length);
            BinaryPrimitives.WriteUInt32LittleEndian(map[16..], range.Type);
            map = map[MapEntrySize..];
        }
        parts.Add(BootImage.Part(at, start));
        byte[] commandLine = Encoding.UTF8.GetBytes(information.CommandLine + "\0");
        if (commandLine.Length > BootImage.LongestCommandLine)
            throw new ConfigurationException($"-append: {commandLine.Length - 1} bytes; up to "
                + $"{BootImage.LongestCommandLine - 1} fit");
        parts.Add(BootImage.Part(BootImage.CommandLineAddress, commandLine));
        return new BootImage(parts, new BootEntry(EntryMode.Pvh, entry, at));
    }

    static ulong InitrdAddress(BootInformation information, int length, ulong kernelEnd)
    {
        ulong size = (ulong)length;
        if (kernelEnd + size + PageMask > information.MemoryEnd)
            throw new ConfigurationException($"-initrd {information.InitrdFile}: {length} bytes; kernel and initrd do "
                + $"not fit into {information.MemoryEnd >> 20} MiB, give a larger -m");
        return information.MemoryEnd - size & ~(ulong)PageMask;
    }
}
