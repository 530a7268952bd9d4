using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Memory controller hub of the Q35 chipset: the host bridge of the PCI Express root complex. Spec: Intel 3
/// Series Express Chipset Family, order 316966, section 5.1 "DRAM Controller Registers".</summary>
public sealed class Mch : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x29C0, 0x060000, HasInterruptPin: false);

    /// <summary>Where PCIEXBAR starts out.</summary>
    public const ulong DefaultEcam = 0xB000_0000;

    // Configuration registers
    const int Ggc = 0x50, PciExpressBar = 0x60, Pam0 = 0x90, SmramControl = 0x9D, ExtendedSmram = 0x9E;

    // PCIEXBAR, section 5.1.13
    const ulong BarEnable = 1, BarAddress = 0xF_F000_0000, BarAddress64M = 0xC00_0000, BarAddress128M = 0x800_0000;
    const int BarLengthShift = 1, BarLengthMask = 3;

    // SMRAM and ESMRAMC, sections 5.1.24 and 5.1.25
    const byte SmramOpen = 0x40, SmramLocked = 0x10, SmramBase = 0x02, SmramWritable = 0x78;
    const byte ExtendedCacheBits = 0x38, ExtendedWritable = 0x87, ErrorClearable = 0x40;

    /// <summary>What firmware expects as it was when it wakes a guest: where its own copy in RAM shows.</summary>
    public static readonly (int Offset, int Count)[] KeptInSleep = [(Pam0, LegacySegments.PamRegisters)];

    readonly LegacySegments _segments;
    readonly AddressSpace _memory;
    readonly PciEcam _ecam;
    MemoryRegion? _window;

    /// <param name="memory">The CPU's memory; this maps its windows there, above RAM and PCI.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    /// <param name="pciMemory">PCI's memory space, with the firmware's ROM.</param>
    /// <param name="root">The bus that it is the bridge to.</param>
    public Mch(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory, PciBus root) : base(Chip, "mch")
    {
        (_memory, _ecam) = (memory, new PciEcam(root));
        Config.Define(Ggc, 0x10, 0x10);
        Config.Define32(PciExpressBar, (uint)DefaultEcam, unchecked((uint)(BarAddress | BarAddress64M | 7)));
        Config.Define32(PciExpressBar + 4, 0, (uint)(BarAddress >> 32));
        for (int i = 0; i < LegacySegments.PamRegisters; i++)
            Config.Define(Pam0 + i, 0, i == 0 ? (byte)0x30 : (byte)0x33);
        Config.Define(SmramControl, SmramBase, SmramWritable);
        Config.Define(ExtendedSmram, ExtendedCacheBits, ExtendedWritable, ErrorClearable);
        _segments = new LegacySegments(memory, ram, pciMemory);
    }

    /// <summary>The window of configuration space in memory, as firmware set it; null while it is off.</summary>
    public (ulong Base, ulong Size)? Ecam
    {
        get
        {
            ulong register = Config.Get32(PciExpressBar) | (ulong)Config.Get32(PciExpressBar + 4) << 32;
            if ((register & BarEnable) == 0) return null;
            return ((int)(register >> BarLengthShift) & BarLengthMask) switch
            {
                0 => (register & BarAddress, PciEcam.FullSize),
                1 => (register & (BarAddress | BarAddress128M), PciEcam.FullSize / 2),
                2 => (register & (BarAddress | BarAddress64M), PciEcam.FullSize / 4),
                _ => null,                                         // reserved
            };
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
        if (offset + size > PciExpressBar && offset <= ExtendedSmram) Apply();
    }

    void Apply()
    {
        using (_memory.Batch())
        {
            _segments.Show(Config.Bytes(Pam0, LegacySegments.PamRegisters), (Config[SmramControl] & SmramOpen) != 0);
            PlaceEcam();
        }
    }

    void PlaceEcam()
    {
        (ulong Base, ulong Size)? wanted = Ecam;
        if (_window != null && (_window.Size != wanted?.Size || wanted is null))
        {
            if (_window.Parent != null) _memory.Root.Unmap(_window);
            _window = null;
        }
        if (wanted is not { } ecam) return;
        if (_window != null) { _window.MoveTo(ecam.Base); return; }
        _window = MemoryRegion.Io("pcie-mmcfg-mmio", ecam.Size, _ecam, AccessSizes.UpToDword);
        _memory.Map(ecam.Base, _window);
    }
}
