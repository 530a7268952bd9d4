using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Host bridge of the 440FX chipset: which of RAM and PCI (where the ROM is) the first megabyte shows. Spec:
/// Intel 82441FX PCI and Memory Controller (PMC), order 290549, sections 3.2.18 "PAM" and 3.2.23 "SMRAM".</summary>
public sealed class I440Fx : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x1237, 0x060000, Revision: 2, HasInterruptPin: false);

    // Configuration registers
    const int Pam0 = 0x59, SmramControl = 0x72;
    const byte SmramOpen = 0x40, SmramLocked = 0x10, SmramBase = 0x02;

    /// <summary>What firmware expects as it was when it wakes a guest: where its own copy in RAM shows.</summary>
    public static readonly (int Offset, int Count)[] KeptInSleep = [(Pam0, LegacySegments.PamRegisters)];

    readonly LegacySegments _segments;

    /// <param name="memory">The CPU's memory; this maps its windows there, above RAM and PCI.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    /// <param name="pciMemory">PCI's memory space, with the firmware's ROM.</param>
    public I440Fx(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory) : base(Chip, "i440FX")
    {
        Config.Define16(PciConfig.Command, PciConfig.MemorySpace | PciConfig.BusMaster, PciConfig.SerrEnable);
        Config.Define16(PciConfig.Status, 0x0280);
        for (int i = 0; i < LegacySegments.PamRegisters; i++)
            Config.Define(Pam0 + i, 0, i == 0 ? (byte)0x30 : (byte)0x33);
        Config.Define(SmramControl, SmramBase, 0x78);
        _segments = new LegacySegments(memory, ram, pciMemory);
    }

    protected override void ResetDevice() => Apply();

    protected override void ExchangeDevice(StateStream state)
    {
        if (state.IsLoading) Apply();                              // configuration space is all there is
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if ((Config[SmramControl] & SmramLocked) != 0) Config[SmramControl] &= unchecked((byte)~SmramOpen);
        if (offset <= SmramControl && offset + size > Pam0) Apply();
    }

    void Apply() => _segments.Show(Config.Bytes(Pam0, LegacySegments.PamRegisters),
        (Config[SmramControl] & SmramOpen) != 0);
}
