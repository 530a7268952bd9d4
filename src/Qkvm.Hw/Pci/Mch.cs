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
    const int TsegMegabytes = 0x50, PciExpressBar = 0x60, Pam0 = 0x90, Smram = 0x9D, ExtendedSmram = 0x9E;

    // PCIEXBAR, section 5.1.13
    const ulong BarEnable = 1, BarAddress = 0xF_F000_0000, BarAddress64M = 0xC00_0000, BarAddress128M = 0x800_0000;
    const int BarLengthShift = 1, BarLengthMask = 3;

    /// <summary>Where firmware notes what it has made of memory, sections 5.1.26 to 5.1.32: TOM to TOLUD.</summary>
    const int MemoryTops = 0xA0, MemoryTopsEnd = 0xB2;

    /// <summary>What firmware expects as it was when it wakes a guest: where its own copy in RAM shows.</summary>
    public static readonly (int Offset, int Count)[] KeptInSleep = [(Pam0, LegacySegments.PamRegisters)];

    readonly LegacySegments _segments;
    readonly SmramControl _smram;
    readonly MchSmram? _extended;
    readonly AddressSpace _memory;
    readonly PciEcam _ecam;
    MemoryRegion? _window;

    /// <param name="memory">The CPU's memory; this maps its windows there, above RAM and PCI.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    /// <param name="pciMemory">PCI's memory space, with the firmware's ROM.</param>
    /// <param name="root">The bus that it is the bridge to.</param>
    /// <param name="smm">The CPU's memory in system management mode; null: it has none.</param>
    /// <param name="smram">How that is laid out.</param>
    public Mch(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory, PciBus root, AddressSpace? smm = null,
        MchSmramOptions? smram = null) : base(Chip, "mch")
    {
        (_memory, _ecam) = (memory, new PciEcam(root));
        Config.Define(TsegMegabytes, 0x10, 0x10);
        Config.Define32(PciExpressBar, (uint)DefaultEcam, unchecked((uint)(BarAddress | BarAddress64M | 7)));
        Config.Define32(PciExpressBar + 4, 0, (uint)(BarAddress >> 32));
        for (int i = 0; i < LegacySegments.PamRegisters; i++)
            Config.Define(Pam0 + i, 0, i == 0 ? (byte)0x30 : (byte)0x33);
        _smram = new SmramControl(Config, Smram);
        MchSmram.Define(Config);
        for (int i = MemoryTops; i < MemoryTopsEnd; i++) Config.Define(i, 0, 0xFF);
        using (memory.Batch())
        {
            _segments = new LegacySegments(memory, ram, pciMemory, smm);
            if (smm != null) _extended = new MchSmram(Config, memory, smm, ram, smram!);
        }
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
        if (offset + size > TsegMegabytes && offset <= ExtendedSmram) Apply();
    }

    void Apply()
    {
        using (_memory.Batch())
        {
            _smram.Settle();
            _extended?.Settle(_smram);
            bool isLow = _extended is not { IsHigh: true };
            _segments.Show(Config.Bytes(Pam0, LegacySegments.PamRegisters), _smram.IsOpen && isLow,
                _smram.IsEnabled && isLow);
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
