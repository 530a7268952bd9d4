using Qkvm.Core.Accel;

namespace Qkvm.Machines.Firmware.Boot;

public enum EntryMode
{
    /// <summary>Flat 32-bit segments, no paging; the information in EBX. Xen, docs/misc/pvh: "direct boot".</summary>
    Pvh,
    /// <summary>The same, the information in ESI. Linux, Documentation/x86/boot.rst: "32-bit Boot Protocol".</summary>
    Linux32,
    /// <summary>Long mode, the first 4 GiB mapped one to one; the information in RSI. The same: "64-bit Boot
    /// Protocol".</summary>
    Linux64,
}

/// <summary>How the first processor starts without firmware.</summary>
/// <param name="Address">Of the first instruction.</param>
/// <param name="Information">The address of what the kernel is told.</param>
public readonly record struct BootEntry(EntryMode Mode, ulong Address, ulong Information)
{
    // Where the tables are that the processor starts with; the kernel leaves them at once.
    const uint Gdt = 0x500, Pml4 = 0x9000, DirectoryPointers = 0xA000, Directories = 0xB000, Stack = 0x8FF0;
    const ushort CodeSelector = 0x10, DataSelector = 0x18, TaskSelector = 0x20;
    const int GiB = 4;

    const ulong ProtectionEnable = 1, ExtensionType = 1 << 4, Paging = 1UL << 31, PhysicalAddressExtension = 1 << 5,
        LongModeEnable = 1 << 8, LongModeActive = 1 << 10;
    // IA32_MTRR_DEF_TYPE, Intel SDM vol. 3, section 12.11.2.1: firmware makes RAM cached
    const uint MtrrDefaultType = 0x2FF;
    const ulong MtrrEnable = 1 << 11, WriteBack = 6;

    const ulong PresentWritable = 3, LargePage = 0x80;

    /// <summary>What lies in memory for it.</summary>
    public IEnumerable<(ulong Address, byte[] Bytes)> Tables
    {
        get
        {
            bool isLong = Mode == EntryMode.Linux64;
            yield return (Gdt, Bytes([0, 0, isLong ? 0x00AF_9B00_0000_FFFF : 0x00CF_9B00_0000_FFFFUL,
                0x00CF_9300_0000_FFFF, 0x0000_8B00_0000_0067, 0]));
            if (!isLong) yield break;
            yield return (Pml4, Bytes([DirectoryPointers | PresentWritable, .. new ulong[511]]));
            var pointers = new ulong[512];
            var pages = new ulong[GiB * 512];
            for (int i = 0; i < GiB; i++) pointers[i] = Directories + (ulong)i * 4096 | PresentWritable;
            for (int i = 0; i < pages.Length; i++) pages[i] = (ulong)i << 21 | LargePage | PresentWritable;
            yield return (DirectoryPointers, Bytes(pointers));
            yield return (Directories, Bytes(pages));
        }
    }

    /// <summary>After its reset.</summary>
    public void Enter(IVCpu cpu)
    {
        const ushort code32 = 0xC09B, code64 = 0xA09B, data = 0xC093, task = 0x008B;
        CpuRegisters registers = cpu.ReadRegisters();
        bool isLong = Mode == EntryMode.Linux64;
        registers.Rip = Address;
        registers.Rflags = 2;                                      // interrupts off
        registers.General[4] = Stack;
        registers.General[Mode == EntryMode.Pvh ? 3 : 6] = Information;
        registers.Cr0 = ProtectionEnable | ExtensionType | (isLong ? Paging : 0);
        registers.Cr4 = isLong ? PhysicalAddressExtension : 0;
        registers.Cr3 = isLong ? Pml4 : 0;
        registers.Efer = isLong ? LongModeEnable | LongModeActive : 0;
        registers.Gdtr = new DescriptorTable { Base = Gdt, Limit = 6 * 8 - 1 };
        SegmentRegister flat = new() { Limit = uint.MaxValue, Access = data, Selector = DataSelector };
        foreach (int segment in (ReadOnlySpan<int>)[CpuRegisters.Es, CpuRegisters.Ss, CpuRegisters.Ds, CpuRegisters.Fs,
            CpuRegisters.Gs]) registers.Segments[segment] = flat;
        registers.Segments[CpuRegisters.Cs] = flat with { Access = isLong ? code64 : code32, Selector = CodeSelector };
        registers.Segments[CpuRegisters.Tr] = new() { Limit = 0x67, Access = task, Selector = TaskSelector };
        if (registers.Msrs.ContainsKey(MtrrDefaultType)) registers.Msrs[MtrrDefaultType] = MtrrEnable | WriteBack;
        cpu.WriteRegisters(registers);
    }

    static byte[] Bytes(ulong[] words)
    {
        byte[] bytes = new byte[words.Length * sizeof(ulong)];
        Buffer.BlockCopy(words, 0, bytes, 0, bytes.Length);
        return bytes;
    }
}
