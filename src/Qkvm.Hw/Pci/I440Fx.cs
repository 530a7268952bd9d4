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
    const int Pam0 = 0x59, Smram = 0x72;

    /// <summary>What firmware expects as it was when it wakes a guest: where its own copy in RAM shows.</summary>
    public static readonly (int Offset, int Count)[] KeptInSleep = [(Pam0, LegacySegments.PamRegisters)];

    readonly LegacySegments _segments;
    readonly SmramControl _smram;

    /// <param name="memory">The CPU's memory; this maps its windows there, above RAM and PCI.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    /// <param name="pciMemory">PCI's memory space, with the firmware's ROM.</param>
    /// <param name="smm">The CPU's memory in system management mode; null: it has none.</param>
    public I440Fx(AddressSpace memory, MemoryRegion ram, MemoryRegion pciMemory, AddressSpace? smm = null)
        : base(Chip, "i440FX")
    {
        Config.Define16(PciConfig.Command, PciConfig.MemorySpace | PciConfig.BusMaster, PciConfig.SerrEnable);
        Config.Define16(PciConfig.Status, 0x0280);
        for (int i = 0; i < LegacySegments.PamRegisters; i++)
            Config.Define(Pam0 + i, 0, i == 0 ? (byte)0x30 : (byte)0x33);
        _smram = new SmramControl(Config, Smram);
        _segments = new LegacySegments(memory, ram, pciMemory, smm);
    }

    protected override void ResetDevice() => Apply();

    protected override void ExchangeDevice(StateStream state)
    {
        if (state.IsLoading) Apply();                              // configuration space is all there is
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if (offset <= Smram && offset + size > Pam0) Apply();
    }

    void Apply()
    {
        _smram.Settle();
        _segments.Show(Config.Bytes(Pam0, LegacySegments.PamRegisters), _smram.IsOpen, _smram.IsEnabled);
    }
}
