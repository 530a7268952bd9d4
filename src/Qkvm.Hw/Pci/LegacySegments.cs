using Qkvm.Core.Memory;

namespace Qkvm.Hw.Pci;

/// <summary>What Intel's host bridges show between A0000h and FFFFFh: thirteen programmable attribute map segments,
/// each RAM, read-only RAM or PCI, and the window that is SMRAM or the screen.</summary>
/// <remarks>Deviation: a segment with writes alone enabled reads and writes PCI.</remarks>
sealed class LegacySegments
{
    /// <summary>Registers of the attribute map: the first byte's high half, then two segments a byte.</summary>
    public const int PamRegisters = 7;

    const byte ReadEnable = 1, WriteEnable = 2;
    const ulong VgaWindow = 0xA0000, VgaWindowSize = 0x20000;
    const int Segments = 13;                                       // F0000-FFFFF, then 16 KiB each from C0000

    readonly AddressSpace _memory;
    readonly Pam[] _pam = new Pam[Segments];
    readonly MemoryRegion _vgaWindow;
    readonly MemoryRegion? _smram;

    /// <param name="memory">The CPU's memory; this maps its windows there, above RAM and PCI.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    /// <param name="pciMemory">PCI's memory space, with the firmware's ROM.</param>
    /// <param name="smm">The CPU's memory in system management mode; null: it has none.</param>
    public LegacySegments(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory, AddressSpace? smm)
    {
        _memory = memory;
        using (memory.Batch())
        {
            _vgaWindow = MemoryRegion.Alias("smram-region", pciMemory, VgaWindow, VgaWindowSize);
            memory.Map(VgaWindow, _vgaWindow, 1);
            if (smm != null) smm.Map(VgaWindow, _smram = MemoryRegion.Alias("smram-low", ram, VgaWindow,
                VgaWindowSize), 1);
            _pam[0] = new Pam(memory, ram, pciMemory, 0xF0000, 0x10000);
            for (int i = 1; i < Segments; i++)
                _pam[i] = new Pam(memory, ram, pciMemory, 0xC0000 + (ulong)(i - 1) * 0x4000, 0x4000);
        }
    }

    /// <param name="pam">PAM0 to PAM6.</param>
    /// <param name="smramOpen">The window shows RAM to all.</param>
    /// <param name="smramEnabled">And to who is in system management mode.</param>
    public void Show(ReadOnlySpan<byte> pam, bool smramOpen, bool smramEnabled)
    {
        using (_memory.Batch())
        {
            _pam[0].Show(pam[0] >> 4);
            for (int i = 1; i < Segments; i++) _pam[i].Show(pam[1 + (i - 1) / 2] >> ((i - 1) % 2 * 4));
            _vgaWindow.Enabled = !smramOpen;
            _smram?.Enabled = smramEnabled;
        }
    }

    sealed class Pam
    {
        readonly MemoryRegion _ram, _readOnlyRam, _pci;

        public Pam(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory, ulong start, ulong size)
        {
            _ram = MemoryRegion.Alias("pam-ram", ram, start, size);
            _readOnlyRam = MemoryRegion.Alias("pam-rom", ram, start, size, readOnly: true);
            _pci = MemoryRegion.Alias("pam-pci", pciMemory, start, size);
            foreach (MemoryRegion region in (ReadOnlySpan<MemoryRegion>)[_ram, _readOnlyRam, _pci])
                memory.Map(start, region, 1);
        }

        public void Show(int attributes)
        {
            bool read = (attributes & ReadEnable) != 0, write = (attributes & WriteEnable) != 0;
            _ram.Enabled = read && write;
            _readOnlyRam.Enabled = read && !write;
            _pci.Enabled = !read;
        }
    }
}
