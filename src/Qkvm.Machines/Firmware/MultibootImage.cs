using System.Buffers.Binary;
using Qkvm.Core.Devices;

namespace Qkvm.Machines.Firmware;

/// <summary>Prepares a Multiboot kernel for the multiboot ROM: its segments, its modules above 1 MiB and behind it, the
/// boot information in low memory, and none of them over another. Spec: Multiboot Specification 0.6.96, sections 3.1
/// and 3.3.</summary>
public static class MultibootImage
{
    const uint HeaderMagic = 0x1BADB002;
    const int SearchLimit = 8192;

    // Header flags. Bits 0 to 15 are requirements: 0 (modules on pages) and 1 (memory) are always met, 2 is answered
    // with text.
    const uint AddressesValid = 0x10000, VideoMode = 0x4, Requirements = 0xFFFF, KnownRequirements = 7;

    const uint PageMask = 4095;
    const uint EndOfLowMemory = 0x9FC00;                           // the EBDA follows
    const uint StartOfHighMemory = 0x10_0000;

    // The ROM's stack grows down from where boot sectors lie; below it are the BIOS' variables and a little room.
    const uint BelowStack = 0x1000, StackFloor = 0x7000, AboveStack = 0x9000;

    /// <summary>The offset of the Multiboot header, or -1.</summary>
    public static int FindHeader(ReadOnlySpan<byte> file)
    {
        for (int at = 0; at + 12 <= Math.Min(file.Length, SearchLimit); at += 4)
            if (U32(file, at) == HeaderMagic && unchecked(U32(file, at) + U32(file, at + 4) + U32(file, at + 8)) == 0)
                return at;
        return -1;
    }

    /// <param name="modules">-initrd: "file args,file args", two commas for one in a name or argument.</param>
    /// <param name="memoryEnd">Where the RAM ends that is the kernel's to use, below 4 GiB.</param>
    /// <param name="warn">Hears what the kernel asks for and does not get.</param>
    public static void Load(FwCfg fwCfg, string file, byte[] kernel, string append, string? modules, ulong memoryEnd,
        Action<string> warn)
    {
        int header = FindHeader(kernel);
        uint flags = U32(kernel, header + 4);
        if ((flags & Requirements & ~KnownRequirements) != 0)      // 3.1.2: "it should notify the user and fail"
            throw Bad(file, $"flags {flags & Requirements:X4}h of its header require what Multiboot 0.6.96 does not " +
                "define");
        bool wantsVideo = (flags & VideoMode) != 0;
        if (wantsVideo) warn($"-kernel {file}: Multiboot: the kernel asks for a video mode; it starts in text mode");
        MultibootKernel image = (flags & AddressesValid) != 0
            ? MultibootKernel.ReadAddressFields(file, kernel, header) : MultibootKernel.ReadElf(file, kernel);

        if (image.Address < StartOfHighMemory && image.End > EndOfLowMemory)
            throw Bad(file, $"it lies at {image.Address:X}h to {image.End:X}h, and there is no memory from " +
                $"{EndOfLowMemory:X}h to 100000h");

        (string Path, string Text)[] list = modules is null ? []
            : [.. CommaList.Split(modules).Select(m => (m.Split(' ')[0], m))];
        var placed = new (uint Start, uint End)[list.Length];
        uint modulesAddress = Math.Max(image.End, StartOfHighMemory) + PageMask & ~PageMask;
        var block = new List<byte>();
        for (int i = 0; i < list.Length; i++)
        {
            while ((block.Count & PageMask) != 0) block.Add(0);
            uint start = modulesAddress + (uint)block.Count;
            block.AddRange(ReadModule(list[i].Path));
            placed[i] = (start, modulesAddress + (uint)block.Count);
        }
        if (Math.Max(image.End, list.Length > 0 ? modulesAddress + (ulong)block.Count : 0) > memoryEnd)
            throw new ConfigurationException(
                $"-kernel {file}: kernel and modules do not fit into the {memoryEnd >> 20} MiB of memory below the " +
                    "firmware's, give a larger -m");

        int size = new MultibootInformation(0, $"{file} {append}".TrimEnd(), list, placed, wantsVideo).Build().Length;
        uint at = Place(image, (uint)size)
            ?? throw new ConfigurationException($"-kernel {file}: kernel, command line and module list do not fit " +
            "into the memory below 640 KiB");
        byte[] information = new MultibootInformation(at, $"{file} {append}".TrimEnd(), list, placed, wantsVideo)
            .Build();
        fwCfg.Add32(FwCfgKey.KernelEntry, image.Entry);
        fwCfg.Add32(FwCfgKey.KernelAddress, image.Address);
        fwCfg.Add32(FwCfgKey.KernelSize, (uint)image.Bytes.Length);
        fwCfg.Add(FwCfgKey.KernelData, image.Bytes);
        fwCfg.Add32(FwCfgKey.SetupAddress, modulesAddress);
        fwCfg.Add32(FwCfgKey.SetupSize, (uint)block.Count);
        fwCfg.Add(FwCfgKey.SetupData, block.ToArray());
        fwCfg.Add32(FwCfgKey.InitrdAddress, at);
        fwCfg.Add32(FwCfgKey.InitrdSize, (uint)information.Length);
        fwCfg.Add(FwCfgKey.InitrdData, information);
    }

    /// <summary>A place below 640 KiB for the information where the kernel is not. Kernels may even lie over the ROM's
    /// stack and the BIOS' variables: the ROM loads them last.</summary>
    static uint? Place(in MultibootKernel kernel, uint size)
    {
        uint kernelEnd = kernel.End + PageMask & ~PageMask;
        foreach (var (from, to) in new[] { (AboveStack, EndOfLowMemory),
            (Math.Max(kernelEnd, AboveStack), EndOfLowMemory), (BelowStack, StackFloor) })
            if (from + size <= to && (from + size <= kernel.Address || from >= kernel.End)) return from;
        return null;
    }

    static byte[] ReadModule(string path)
    {
        try { return File.ReadAllBytes(path); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-initrd: cannot read the module {path}: {e.Message}; ',,' stands for " +
                "a comma in a name", e);
        }
    }

    internal static ConfigurationException Bad(string file, string why) =>
        new($"-kernel {file}: not a Multiboot image to boot ({why})");

    internal static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
}
