using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;

namespace Qkvm.Machines.Firmware;

/// <summary>Prepares a bzImage for the linuxboot ROM: splits it, chooses addresses, fills the boot loader's fields of the setup
/// header in. Spec: Linux, Documentation/x86/boot.rst.</summary>
public static class LinuxImage
{
    // Offsets in the setup header
    const int SetupSectors = 0x1F1, VideoMode = 0x1FA, Magic = 0x202, Version = 0x206, TypeOfLoader = 0x210, LoadFlags = 0x211,
        RamdiskImage = 0x218, RamdiskSize = 0x21C, HeapEnd = 0x224, CommandLine = 0x228, InitrdMax = 0x22C, ExtendedFlags = 0x236,
        CommandLineMax = 0x238, HeaderEnd = 0x268;
    const uint HdrS = 0x53726448;
    const byte LoadedHigh = 1, CanUseHeap = 0x80, LoaderType = 0xB0;
    const ushort Oldest = 0x202, WithInitrdMax = 0x203, WithCommandLineMax = 0x206, WithExtendedFlags = 0x20C;
    const ushort CanBeLoadedAbove4G = 2;

    const uint RealModeAddress = 0x10000, ProtectedModeAddress = 0x100000, CommandLineAddress = 0x20000;
    const uint DefaultInitrdMax = 0x37FF_FFFF;
    const uint FirmwareReserve = 0x28000;                          // ACPI tables at the top of low memory

    /// <summary>Why the file is no bzImage this can boot, or null.</summary>
    public static string? Refusal(ReadOnlySpan<byte> kernel)
    {
        if (kernel.Length < HeaderEnd) return $"{kernel.Length} bytes are too few for its header";
        if (BinaryPrimitives.ReadUInt32LittleEndian(kernel[Magic..]) != HdrS) return "the header magic 'HdrS' is missing at 202h";
        ushort version = BinaryPrimitives.ReadUInt16LittleEndian(kernel[Version..]);
        if (version < Oldest) return $"boot protocol {version >> 8}.{version & 0xFF:00}; 2.02 or later is needed";
        if ((kernel[LoadFlags] & LoadedHigh) == 0) return "a zImage that loads low; a bzImage is needed";
        return SetupSize(kernel) >= kernel.Length ? "it ends inside its setup code" : null;
    }

    /// <param name="belowFourGiB">RAM from 0 on.</param>
    public static void Load(FwCfg fwCfg, string file, byte[] kernel, string append, string? initrdFile, byte[]? initrd, ulong belowFourGiB)
    {
        if (Refusal(kernel) is { } why) throw new ConfigurationException($"-kernel {file}: not a Linux bzImage ({why})");
        int setupSize = SetupSize(kernel);
        byte[] setup = kernel.AsSpan(0, setupSize).ToArray();
        ushort version = BinaryPrimitives.ReadUInt16LittleEndian(setup.AsSpan(Version));
        byte[] commandLine = Encoding.UTF8.GetBytes(append + "\0");
        uint limit = version >= WithCommandLineMax ? BinaryPrimitives.ReadUInt32LittleEndian(setup.AsSpan(CommandLineMax)) : 255;
        if (commandLine.Length - 1 > limit)
            throw new ConfigurationException($"-append: {commandLine.Length - 1} bytes; this kernel takes up to {limit}");

        Span<byte> header = setup;
        if (VideoModeOf(append) is { } mode) BinaryPrimitives.WriteUInt16LittleEndian(header[VideoMode..], mode);
        header[TypeOfLoader] = LoaderType;
        header[LoadFlags] |= CanUseHeap;
        BinaryPrimitives.WriteUInt16LittleEndian(header[HeapEnd..], (ushort)(CommandLineAddress - RealModeAddress - 0x200));
        BinaryPrimitives.WriteUInt32LittleEndian(header[CommandLine..], CommandLineAddress);
        if (initrd != null)
        {
            uint address = InitrdAddress(header, version, initrdFile!, initrd.Length, (uint)(kernel.Length - setupSize), belowFourGiB);
            BinaryPrimitives.WriteUInt32LittleEndian(header[RamdiskImage..], address);
            BinaryPrimitives.WriteUInt32LittleEndian(header[RamdiskSize..], (uint)initrd.Length);
            fwCfg.Add32(FwCfgKey.InitrdAddress, address);
            fwCfg.Add32(FwCfgKey.InitrdSize, (uint)initrd.Length);
            fwCfg.Add(FwCfgKey.InitrdData, initrd);
        }
        fwCfg.Add32(FwCfgKey.CommandLineAddress, CommandLineAddress);
        fwCfg.Add32(FwCfgKey.CommandLineSize, (uint)commandLine.Length);
        fwCfg.Add(FwCfgKey.CommandLineData, commandLine);
        fwCfg.Add32(FwCfgKey.KernelAddress, ProtectedModeAddress);
        fwCfg.Add32(FwCfgKey.KernelSize, (uint)(kernel.Length - setupSize));
        fwCfg.Add(FwCfgKey.KernelData, kernel.AsMemory(setupSize));
        fwCfg.Add32(FwCfgKey.SetupAddress, RealModeAddress);
        fwCfg.Add32(FwCfgKey.SetupSize, (uint)setupSize);
        fwCfg.Add(FwCfgKey.SetupData, setup);
    }

    static int SetupSize(ReadOnlySpan<byte> kernel) => ((kernel[SetupSectors] == 0 ? 4 : kernel[SetupSectors]) + 1) * 512;

    /// <summary>As high as the kernel and the RAM below the firmware's tables allow, page aligned.</summary>
    static uint InitrdAddress(ReadOnlySpan<byte> header, ushort version, string file, int size, uint kernelSize, ulong belowFourGiB)
    {
        bool above = version >= WithExtendedFlags
            && (BinaryPrimitives.ReadUInt16LittleEndian(header[ExtendedFlags..]) & CanBeLoadedAbove4G) != 0;
        ulong highest = above ? uint.MaxValue
            : version >= WithInitrdMax ? BinaryPrimitives.ReadUInt32LittleEndian(header[InitrdMax..]) : DefaultInitrdMax;
        highest = Math.Min(highest, Math.Max(belowFourGiB, FirmwareReserve + 1) - FirmwareReserve - 1);
        if ((ulong)size + ProtectedModeAddress + kernelSize > highest)
            throw new ConfigurationException(
                $"-initrd {file}: {size} bytes; kernel and initrd do not fit into {belowFourGiB >> 20} MiB of memory, give a larger -m");
        return (uint)(highest - (ulong)size) & ~4095u;
    }

    /// <summary>vga= of the command line: "normal", "ext", "ask" or a number.</summary>
    static ushort? VideoModeOf(string append)
    {
        foreach (string word in append.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            if (word.StartsWith("vga=", StringComparison.Ordinal))
                return word[4..] switch
                {
                    "normal" => 0xFFFF,
                    "ext" => 0xFFFE,
                    "ask" => 0xFFFD,
                    var number => Properties.TryParseNumber(number, out ulong mode) && mode <= ushort.MaxValue ? (ushort)mode : null,
                };
        return null;
    }
}
