using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>SMBus controller function of the ICH9. Spec: Intel I/O Controller Hub 9, order 316972, chapter 20; the host
/// registers are the PIIX4's.</summary>
/// <remarks>Deviations: memory space BAR, slave mode, SMI and interrupt are absent.</remarks>
public sealed class Ich9Smbus : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x2930, 0x0C0500, Revision: 2);

    const int HostConfiguration = 0x40, SmbusBar = 4;
    const ulong RegionSize = 64;

    readonly PiixSmbus _host = new();

    public Ich9Smbus() : base(Chip, "ICH9-SMB")
    {
        IsMultifunction = true;
        Config.Define(HostConfiguration, 0, 0x17);
        Bar(SmbusBar, MemoryRegion.Io("pm-smbus", RegionSize, _host, AccessSizes.Bytes), BarKind.Io);
    }

    protected override void ResetDevice() => _host.Reset();

    protected override void ExchangeDevice(StateStream state) => _host.Exchange(state.Group("host"));
}
