using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Input;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Timer;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Pc;

/// <summary>The chips that every PC has, and their places.</summary>
/// <remarks>Deviations: the keyboard controller and port 92h drive one A20 gate, and who writes last decides; the
/// 82371AB opens it while either does, and firmware leaves port 92h open.</remarks>
public sealed partial class PcBoard
{
    // Ports
    const ulong PitPort = 0x40, SystemControlPortB = 0x61, RtcPort = 0x70, KeyboardDataPort = 0x60,
        KeyboardCommandPort = 0x64, SystemControlPortA = 0x92, DmaMasterPort = 0x00, DmaPagePort = 0x80,
        DmaSlavePort = 0xC0, CoprocessorPort = 0xF0;

    // Interrupts
    const int TimerIrq = 0, KeyboardIrq = 1, RtcIrq = 8, SciIrq = 9, MouseIrq = 12, CoprocessorIrq = 13,
        PrimaryIdeIrq = 14, SecondaryIdeIrq = 15;
    const uint HpetRoutes = 1 << 2;

    Piix3 _isaBridge = null!;                                      // made by MakeIsaChips, always
    Piix4Pm? _powerManagement;                                     // none without ACPI
    Piix3Ide _ide = null!;
    Mc146818 _rtc = null!;
    CoprocessorErrors _coprocessor = null!;

    void MakeIsaChips()
    {
        var pciNode = new QBus(Pci.Id, "PCI");
        var isaNode = new QBus("isa.0", "ISA");
        _isaBridge = new Piix3([.. Enumerable.Range(0, 16).Select(Irq)], () => RequestReset());
        Own("i440FX-pcihost", Tree, new PciHostPorts(Pci, Ports, _isaBridge));
        Tree.Devices[^1].Buses.Add(pciNode);
        Plug("i440FX", pciNode, new I440Fx(Memory, _memory.RamRegion, _memory.Pci), 0, 0);
        Plug("PIIX3", pciNode, _isaBridge, IsaSlot, 0);
        pciNode.Devices[^1].Buses.Add(isaNode);
        if (_config.Acpi)
        {
            _powerManagement = new Piix4Pm(Clock, Ports, Irq(SciIrq), () =>
                RequestShutdown(ShutdownCause.GuestShutdown));
            Plug("PIIX4_PM", pciNode, _powerManagement, IsaSlot, PmFunction);
        }

        _ide = new Piix3Ide(Ports, Irq(PrimaryIdeIrq), Irq(SecondaryIdeIrq));
        Plug("piix3-ide", pciNode, _ide, IsaSlot, IdeFunction);
        foreach (IdeChannel channel in _ide.Channels)
        {
            pciNode.Devices[^1].Buses.Add(new QBus(channel.Id, "IDE"));
            _buses[channel.Id] = channel;
        }

        // The timers' outputs go through the HPET, which can take their places.
        IrqLine pitOut = Irq(TimerIrq), rtcOut = Irq(RtcIrq);
        if (_config.Hpet)
        {
            Hpet hpet = Own("hpet", Tree, new Hpet(Clock, Irq, HpetRoutes, _interrupts.TimerTicks));
            Memory.Map(AcpiTables.HpetAddress, MemoryRegion.Io("hpet", Hpet.RegionSize, hpet, Hpet.Sizes), 1);
            pitOut = new IrqLine("pit", hpet.SetPit);
            rtcOut = new IrqLine("rtc", hpet.SetRtc);
        }
        I8254 pit = Own("isa-pit", isaNode, new I8254(Clock, pitOut, _interrupts.TimerTicks));
        Ports.Map(PitPort, MemoryRegion.Io("pit", 4, pit, AccessSizes.Bytes));
        SystemControlPort control = Own("isa-pcspk", isaNode, new SystemControlPort(pit, Clock));
        Ports.Map(SystemControlPortB, MemoryRegion.Io("pcspk", 1, control, AccessSizes.ByteOnly));
        _rtc = Own("mc146818rtc", isaNode, new Mc146818(Clock, rtcOut, StartDate(_config.Rtc)));
        Ports.Map(RtcPort, MemoryRegion.Io("rtc", 2, _rtc, AccessSizes.Bytes));

        I8042 keyboard =
            Own("i8042", isaNode, new I8042(Irq(KeyboardIrq), Irq(MouseIrq), GateA20, () => RequestReset(), Input));
        Ports.Map(KeyboardDataPort, MemoryRegion.Io("i8042-data", 1, keyboard.Data, AccessSizes.ByteOnly));
        Ports.Map(KeyboardCommandPort, MemoryRegion.Io("i8042-cmd", 1, keyboard.Command, AccessSizes.ByteOnly));
        Port92 port92 = Own("port92", isaNode, new Port92(GateA20, () => RequestReset()));
        Ports.Map(SystemControlPortA, MemoryRegion.Io("port92", 1, port92, AccessSizes.ByteOnly));
        _coprocessor = Own("coprocessor", isaNode, new CoprocessorErrors(Irq(CoprocessorIrq), Lock));
        Ports.Map(CoprocessorPort, MemoryRegion.Io("coprocessor", 1, _coprocessor, AccessSizes.ByteOnly));
        I8237Pair dma = Own("i8257", isaNode, new I8237Pair());
        Ports.Map(DmaMasterPort, MemoryRegion.Io("dma", 16, dma.Master, AccessSizes.Bytes));
        Ports.Map(DmaSlavePort, MemoryRegion.Io("dma", 32, dma.Slave, AccessSizes.Bytes));
        Ports.Map(DmaPagePort, MemoryRegion.Io("dma-page", 16, dma.Pages, AccessSizes.Bytes));
    }

    /// <summary>Also while the chips are made, before there are processors: open.</summary>
    void GateA20(bool open) => _accelerator.SetA20(open);

    void Plug(string driver, QBus node, PciDevice function, int slot, int functionNumber)
    {
        Own(driver, node, function);
        Pci.Plug(function, slot << 3 | functionNumber);
    }

    static DateTime StartDate(RtcConfig rtc) => rtc.Base switch
    {
        RtcBase.Utc => DateTime.UtcNow,
        RtcBase.LocalTime => DateTime.Now,
        _ => rtc.Date,
    };
}
