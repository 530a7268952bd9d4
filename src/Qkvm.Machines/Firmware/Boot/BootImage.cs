using Qkvm.Core.Accel;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>What lies in RAM when the first processor starts without firmware, and how it starts.</summary>
/// <param name="Segments">All below 4 GiB.</param>
public sealed record BootImage(IReadOnlyList<ElfImage.Segment> Segments, BootEntry Entry)
{
    /// <summary>Room below 1 MiB for what a kernel is told; the processor's own tables lie below.</summary>
    public const uint InformationAddress = 0x7000, CommandLineAddress = 0x20000;
    public const int LongestCommandLine = 0x10000;

    public void Load(PcMemory memory)
    {
        foreach (ElfImage.Segment segment in Segments)
        {
            ulong length = (ulong)segment.Bytes.Length;
            memory.Load(segment.Address, segment.Bytes.Span);
            if (segment.Size > length) memory.Clear(segment.Address + length, segment.Size - length);
        }
        foreach (var (address, bytes) in Entry.Tables) memory.Load(address, bytes);
    }

    public static ElfImage.Segment Part(ulong address, ReadOnlyMemory<byte> bytes) =>
        new(address, bytes, (ulong)bytes.Length);
}

/// <summary>What a kernel gets beside itself.</summary>
/// <param name="File">The kernel's, for messages.</param>
/// <param name="CommandLine">With what the machine adds.</param>
/// <param name="Map">Memory, as INT 15h AX=E820h has it: 1 usable, 2 reserved.</param>
/// <param name="MemoryEnd">Where the RAM below 4 GiB ends.</param>
/// <param name="Rsdp">The address of ACPI's root pointer, or 0.</param>
public sealed record BootInformation(string File, string CommandLine, byte[]? Initrd, string? InitrdFile,
    IReadOnlyList<MemoryRange> Map, ulong MemoryEnd, ulong Rsdp);

public readonly record struct MemoryRange(ulong Address, ulong Length, uint Type)
{
    public const uint Usable = 1, Reserved = 2;
}
