using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Host bridge of the 440FX chipset: which of RAM and PCI (where the ROM is) the first megabyte shows. Spec:
/// Intel 82441FX PCI and Memory Controller (PMC), order 290549, sections 3.2.18 "PAM" and 3.2.23 "SMRAM".</summary>
/// <remarks>Deviations: a segment with writes alone enabled reads and writes PCI; SMRAM opens with D_OPEN only, no CPU
/// enters system management mode.</remarks>
public sealed class I440Fx : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x1237, 0x060000, Revision: 2, HasInterruptPin: false);

    // Configuration registers
    const int Pam0 = 0x59, SmramControl = 0x72;
    const byte ReadEnable = 1, WriteEnable = 2;
    const byte SmramOpen = 0x40, SmramLocked = 0x10, SmramBase = 0x02;

    const ulong VgaWindow = 0xA0000, VgaWindowSize = 0x20000;
    const int Segments = 13;                                       // F0000-FFFFF, then 16 KiB each from C0000

    readonly Pam[] _pam = new Pam[Segments];
    readonly MemoryRegion _vgaWindow;
    readonly AddressSpace _memory;

    /// <param name="memory">The CPU's memory; this maps its windows there, above RAM and PCI.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    /// <param name="pciMemory">PCI's memory space, with the firmware's ROM.</param>
    public I440Fx(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory) : base(Chip, "i440FX")
    {
        _memory = memory;
        Config.Define16(PciConfig.Command, PciConfig.MemorySpace | PciConfig.BusMaster, PciConfig.SerrEnable);
        Config.Define16(PciConfig.Status, 0x0280);
        for (int register = Pam0; register < Pam0 + 7; register++)
            Config.Define(register, 0, register == Pam0 ? (byte)0x30 : (byte)0x33);
        Config.Define(SmramControl, SmramBase, 0x78);
        using (memory.Batch())
        {
            _vgaWindow = MemoryRegion.Alias("smram-region", pciMemory, VgaWindow, VgaWindowSize);
            memory.Map(VgaWindow, _vgaWindow, 1);
            _pam[0] = new Pam(memory, ram, pciMemory, 0xF0000, 0x10000);
            for (int i = 1; i < Segments; i++)
                _pam[i] = new Pam(memory, ram, pciMemory, 0xC0000 + (ulong)(i - 1) * 0x4000, 0x4000);
        }
    }

    protected override void ResetDevice() => Apply();

    protected override void ExchangeDevice(StateStream state)
    {
        if (state.IsLoading) Apply();                              // configuration space is all there is
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if ((Config[SmramControl] & SmramLocked) != 0) Config[SmramControl] &= unchecked((byte)~SmramOpen);
        if (offset < Pam0 + 7 && offset + size > Pam0 || offset <= SmramControl && offset + size > SmramControl)
            Apply();
    }

    void Apply()
    {
        using (_memory.Batch())
        {
            _pam[0].Show(Config[Pam0] >> 4);
            for (int i = 1; i < Segments; i++) _pam[i].Show(Config[Pam0 + 1 + (i - 1) / 2] >> ((i - 1) % 2 * 4));
            _vgaWindow.Enabled = (Config[SmramControl] & SmramOpen) == 0;
        }
    }

    /// <summary>A programmable attribute map segment: RAM, read-only RAM or PCI.</summary>
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
