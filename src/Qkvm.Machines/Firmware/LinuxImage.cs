using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;

namespace Qkvm.Machines.Firmware;

/// <summary>Prepares a Linux kernel for the linuxboot ROM: splits it, chooses addresses, fills the boot loader's fields
/// of the setup header in. All versions of the protocol, bzImage and zImage. Spec: Linux,
/// Documentation/x86/boot.rst.</summary>
public static class LinuxImage
{
    // Offsets in the setup header
    internal const int CommandLineMagic = 0x20, CommandLineOffset = 0x22, SetupSectors = 0x1F1, VideoMode = 0x1FA,
        BootFlag = 0x1FE, Magic = 0x202, Version = 0x206, TypeOfLoader = 0x210, LoadFlags = 0x211,
        SetupMoveSize = 0x212, RamdiskImage = 0x218, RamdiskSize = 0x21C, HeapEnd = 0x224, CommandLine = 0x228,
        InitrdMax = 0x22C, Alignment = 0x230, IsRelocatable = 0x234, ExtendedFlags = 0x236, CommandLineMax = 0x238,
        PreferredAddress = 0x258, InitSize = 0x260, HeaderEnd = 0x268;
    const uint HdrS = 0x53726448;
    const ushort BootSignature = 0xAA55, CommandLineMagicValue = 0xA33F;
    internal const byte LoadedHigh = 1, CanUseHeap = 0x80, LoaderType = 0xB0;
    internal const ushort WithHeader = 0x200, WithHeap = 0x201, WithCommandLinePointer = 0x202, WithInitrdMax = 0x203,
        WithCommandLineMax = 0x206, WithInitSize = 0x20A, WithExtendedFlags = 0x20C;
    const ushort CanBeLoadedAbove4G = 2;

    // "Memory layout": modern kernels take their real-mode part anywhere; old ones, and zImages, which lie below it, at
    // 90000h.
    internal const uint HighAddress = 0x100000, LowAddress = 0x10000;
    const uint ModernRealMode = 0x10000, ModernHeapEnd = 0x10000, OldRealMode = 0x90000, OldHeapEnd = 0x9800;
    internal const uint MaxSetup = 0x8000, OldCommandLineMax = 255, LongestCommandLine = 0x10000;
    const uint DefaultInitrdMax = 0x37FF_FFFF;

    /// <summary>Whether it calls itself a Linux kernel of protocol 2.00 or later.</summary>
    public static bool HasMagic(ReadOnlySpan<byte> kernel) => kernel.Length >= Version + 2
        && U32(kernel, Magic) == HdrS;

    /// <summary>Why the file is no kernel this can boot, or null.</summary>
    public static string? Refusal(ReadOnlySpan<byte> kernel)
    {
        if (kernel.Length < HeaderEnd) return $"{kernel.Length} bytes are too few for its header";
        if (!HasMagic(kernel) && U16(kernel, BootFlag) != BootSignature)
            return "the header magic 'HdrS' is missing at 202h, and the boot signature of older kernels at 1FEh";
        int setupSize = SetupSize(kernel);
        if (setupSize >= kernel.Length) return "it ends inside its setup code";
        if (setupSize > MaxSetup) return $"its setup code of {setupSize} bytes exceeds 32 KiB";
        return !IsHigh(kernel) && kernel.Length - setupSize > OldRealMode - LowAddress
            ? $"a zImage of {kernel.Length - setupSize} bytes; 512 KiB fit below 90000h" : null;
    }

    /// <param name="memoryEnd">Where the RAM ends that is the kernel's to use, below 4 GiB.</param>
    public static void Load(FwCfg fwCfg, string file, byte[] kernel, string append, string? initrdFile, byte[]? initrd,
        ulong memoryEnd)
    {
        if (Refusal(kernel) is { } why) throw new ConfigurationException($"-kernel {file}: not a Linux kernel ({why})");
        int setupSize = SetupSize(kernel);
        byte[] setup = kernel.AsSpan(0, setupSize).ToArray();
        Span<byte> header = setup;
        ushort version = VersionOf(kernel);
        bool isModern = version >= WithCommandLinePointer && IsHigh(kernel);
        uint realMode = isModern ? ModernRealMode : OldRealMode, heapEnd = isModern ? ModernHeapEnd : OldHeapEnd;
        uint address = IsHigh(kernel) ? HighAddress : LowAddress;
        byte[] commandLine = Encoding.UTF8.GetBytes(append + "\0");
        uint limit = version >= WithCommandLineMax ? U32(header, CommandLineMax) : OldCommandLineMax;
        if (!isModern) limit = Math.Min(limit, OldCommandLineMax); // what is left below the end of low memory
        if (commandLine.Length - 1 > Math.Min(limit, LongestCommandLine))
            throw new ConfigurationException($"-append: {commandLine.Length - 1} bytes; this kernel takes up to " +
                $"{limit}");
        ulong kernelEnd = KernelEnd(header, version, address, (uint)(kernel.Length - setupSize));
        if (kernelEnd > memoryEnd)
            throw new ConfigurationException($"-kernel {file}: the kernel needs the memory up to " +
                $"{(kernelEnd >> 20) + 1} MiB, give a larger -m");

        if (VideoModeOf(append) is { } mode) Put16(header, VideoMode, mode);
        if (version >= WithHeader) header[TypeOfLoader] = LoaderType;
        if (version >= WithHeap)
        {
            header[LoadFlags] |= CanUseHeap;
            Put16(header, HeapEnd, (ushort)(heapEnd - 0x200));
        }
        if (version >= WithCommandLinePointer) Put32(header, CommandLine, realMode + heapEnd);
        else
        {
            Put16(header, CommandLineMagic, CommandLineMagicValue);
            Put16(header, CommandLineOffset, (ushort)heapEnd);
            if (version >= WithHeader) Put16(header, SetupMoveSize, (ushort)(heapEnd + (uint)commandLine.Length));
        }
        if (initrd != null)
        {
            if (version < WithHeader)
                throw new ConfigurationException($"-initrd {initrdFile}: this kernel's boot protocol knows no initrd");
            uint at = InitrdAddress(header, version, initrdFile!, initrd.Length, kernelEnd, memoryEnd);
            Put32(header, RamdiskImage, at);
            Put32(header, RamdiskSize, (uint)initrd.Length);
            fwCfg.Add32(FwCfgKey.InitrdAddress, at);
            fwCfg.Add32(FwCfgKey.InitrdSize, (uint)initrd.Length);
            fwCfg.Add(FwCfgKey.InitrdData, initrd);
        }
        fwCfg.Add32(FwCfgKey.CommandLineAddress, realMode + heapEnd);
        fwCfg.Add32(FwCfgKey.CommandLineSize, (uint)commandLine.Length);
        fwCfg.Add(FwCfgKey.CommandLineData, commandLine);
        fwCfg.Add32(FwCfgKey.KernelAddress, address);
        fwCfg.Add32(FwCfgKey.KernelSize, (uint)(kernel.Length - setupSize));
        fwCfg.Add(FwCfgKey.KernelData, kernel.AsMemory(setupSize));
        fwCfg.Add32(FwCfgKey.SetupAddress, realMode);
        fwCfg.Add32(FwCfgKey.SetupSize, (uint)setupSize);
        fwCfg.Add(FwCfgKey.SetupData, setup);
    }

    /// <summary>0 for kernels before protocol 2.00.</summary>
    internal static ushort VersionOf(ReadOnlySpan<byte> kernel) => HasMagic(kernel) ? U16(kernel, Version) : (ushort)0;

    internal static bool IsHigh(ReadOnlySpan<byte> kernel) => VersionOf(kernel) >= WithHeader
        && (kernel[LoadFlags] & LoadedHigh) != 0;

    internal static int SetupSize(ReadOnlySpan<byte> kernel) =>
        ((kernel[SetupSectors] == 0 ? 4 : kernel[SetupSectors]) + 1) * 512;

    /// <summary>Where the memory ends that the kernel takes before it reads the memory map: the field init_size,
    /// counted from where it runs, which is its preferred address or, behind where it was loaded, the next multiple of
    /// its alignment.</summary>
    internal static ulong KernelEnd(ReadOnlySpan<byte> header, ushort version, uint address, uint size)
    {
        ulong end = address + (ulong)size;
        if (version < WithInitSize) return end;
        uint alignment = Math.Max(U32(header, Alignment), 1);
        ulong preferred = BinaryPrimitives.ReadUInt64LittleEndian(header[PreferredAddress..]);
        ulong start = header[IsRelocatable] == 0 ? preferred
            : Math.Max((address + (ulong)alignment - 1) / alignment * alignment, preferred);
        return Math.Max(end, Math.Min(start, uint.MaxValue) + U32(header, InitSize));
    }

    /// <summary>As high as the kernel and the RAM below the firmware's tables allow, page aligned.</summary>
    internal static uint InitrdAddress(ReadOnlySpan<byte> header, ushort version, string file, int size,
        ulong kernelEnd, ulong memoryEnd)
    {
        bool above = version >= WithExtendedFlags && (U16(header, ExtendedFlags) & CanBeLoadedAbove4G) != 0;
        ulong highest = above ? uint.MaxValue : version >= WithInitrdMax ? U32(header, InitrdMax) : DefaultInitrdMax;
        highest = Math.Min(highest, memoryEnd - 1);
        if ((ulong)size + Math.Max(kernelEnd, HighAddress) > highest)
            throw new ConfigurationException($"-initrd {file}: {size} bytes; kernel and initrd do not fit into the " +
                "memory below "
                + $"{(highest >> 20) + 1} MiB, give a larger -m");
        return (uint)(highest - (ulong)size) & ~4095u;
    }

    /// <summary>vga= of the command line: "normal", "ext", "ask" or a number.</summary>
    internal static ushort? VideoModeOf(string append)
    {
        foreach (string word in append.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            if (word.StartsWith("vga=", StringComparison.Ordinal))
                return word[4..] switch
                {
                    "normal" => 0xFFFF,
                    "ext" => 0xFFFE,
                    "ask" => 0xFFFD,
                    var number => Properties.TryParseNumber(number, out ulong mode) && mode <= ushort.MaxValue
                        ? (ushort)mode : null,
                };
        return null;
    }

    static ushort U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);
    static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);
    static void Put16(Span<byte> bytes, int at, ushort value) =>
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[at..], value);
    static void Put32(Span<byte> bytes, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[at..], value);
}
