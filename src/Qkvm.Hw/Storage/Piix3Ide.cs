using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>The IDE function of the 82371SB (PIIX3). Intel order 290550, section 2.3; two channels in compatibility
/// mode with bus masters.</summary>
/// <remarks>Deviations: the ports are decoded whatever the IDE timing registers say, and timing has no
/// effect.</remarks>
public sealed class Piix3Ide : PciDevice
{
    const ushort Intel = 0x8086, DeviceId = 0x7010;
    const uint IdeController = 0x010180;                           // with bus master
    const ulong PrimaryCommand = 0x1F0, PrimaryControl = 0x3F6, SecondaryCommand = 0x170, SecondaryControl = 0x376;
    const int CommandPorts = 8, BusMasterBar = 4, PrimaryTiming = 0x40, SecondaryTiming = 0x42;

    readonly IdeBusMaster[] _masters = new IdeBusMaster[2];

    /// <param name="ports">Where the compatibility ports appear.</param>
    /// <param name="irq14">The primary channel's interrupt.</param>
    public Piix3Ide(AddressSpace ports, IrqLine irq14, IrqLine irq15)
        : base(new PciIdentity(Intel, DeviceId, IdeController, HasInterruptPin: false), "piix3-ide")
    {
        Channels = [new IdeChannel("ide.0", 0, irq14), new IdeChannel("ide.1", 1, irq15)];
        MapPorts(ports, Channels[0], PrimaryCommand, PrimaryControl);
        MapPorts(ports, Channels[1], SecondaryCommand, SecondaryControl);
        for (int i = 0; i < 2; i++) _masters[i] = new IdeBusMaster(Channels[i], () => Dma);
        Config.Define16(PciConfig.Status, 0x0280);                 // fast back-to-back, medium DEVSEL#
        Config.Define16(PrimaryTiming, 0, 0xFFFF);
        Config.Define16(SecondaryTiming, 0, 0xFFFF);
        var bank = new BusMasterBank(_masters);
        Bar(BusMasterBar,
            MemoryRegion.Io("piix3-ide-bmdma", 2 * IdeBusMaster.RegisterBytes, bank, AccessSizes.UpToDword),
            BarKind.Io);
    }

    /// <summary>"ide.0" and "ide.1".</summary>
    public IReadOnlyList<IdeChannel> Channels { get; }

    protected override void ResetDevice()
    {
        foreach (IdeChannel channel in Channels) channel.Reset();
        foreach (IdeBusMaster master in _masters) master.Reset();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        for (int i = 0; i < Channels.Count; i++)
        {
            Channels[i].Exchange(state.Group("channel", i));
            _masters[i].Exchange(state.Group("bus-master", i));
        }
    }

    static void MapPorts(AddressSpace ports, IdeChannel channel, ulong command, ulong control)
    {
        ports.Map(command, MemoryRegion.Io($"{channel.Id}-command", CommandPorts, channel, AccessSizes.UpToDword));
        ports.Map(control, MemoryRegion.Io($"{channel.Id}-control", 1, channel.ControlBlock, AccessSizes.ByteOnly));
    }

    sealed class BusMasterBank(IdeBusMaster[] masters) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) =>
            masters[offset / IdeBusMaster.RegisterBytes].Read(offset % IdeBusMaster.RegisterBytes, size);

        public void Write(ulong offset, int size, ulong value) =>
            masters[offset / IdeBusMaster.RegisterBytes].Write(offset % IdeBusMaster.RegisterBytes, size, value);
    }
}
