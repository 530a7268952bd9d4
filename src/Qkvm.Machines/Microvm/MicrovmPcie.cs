using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Firmware;
using static Qkvm.Core.Acpi.Aml;
using static Qkvm.Core.Acpi.AmlResource;

namespace Qkvm.Machines.Microvm;

/// <summary>The generic PCI Express host bridge: configuration space in memory alone, memory windows, no ports; the
/// four interrupts go straight to an I/O APIC. PCI Firmware 3.3, section 4.1.</summary>
sealed class MicrovmPcie
{
    const ulong EcamAddress = 0xE000_0000, EcamSize = PciEcam.FullSize;
    const uint WindowStart = 0xC000_0000, WindowEnd = 0xDFFF_FFFF;
    const int Pins = 4, OnFirstOfTwo = 16, OnOnlyOne = 12;
    const ulong PortSpace = 0x1_0000;

    static readonly PciIdentity Root = new(0x1B36, 0x0008, 0x060000, HasInterruptPin: false);

    readonly int _firstGsi;

    /// <param name="hasTwo">I/O APICs: of the first one's inputs other ones are free then.</param>
    public MicrovmPcie(Board board, bool hasTwo)
    {
        _firstGsi = hasTwo ? OnFirstOfTwo : OnOnlyOne;
        IrqLine[] pins = [.. Enumerable.Range(_firstGsi, Pins).Select(board.Irq)];
        Bus = new PciBus("pcie.0", board.Layout.Pci, MemoryRegion.Container("gpex-ioport", PortSpace), board.Memory,
            board.Msi, static (slot, pin) => (slot + pin) % Pins,
            [.. pins.Select<IrqLine, Action<bool>>(pin => pin.Set)])
            { Log = board.Memory.Log };
        var bus = new QBus(Bus.Id, BusKind.PciExpress, Bus);
        board.Memory.Map(EcamAddress, MemoryRegion.Io("pcie-ecam", EcamSize, new PciEcam(Bus), AccessSizes.UpToDword));
        Host host = board.Own("gpex-pcihost", board.Tree, new Host(), bus);
        board.Describe(host, "PCI0", () => Describe(board));
        board.Describe(host, "RES0", () =>
        [
            Name("_HID", EisaId("PNP0C02")),
            Name("_CRS", Template(Memory32((uint)EcamAddress, (uint)EcamSize, writable: true))),
        ]);
        Bus.Plug(board.Own("gpex-root", bus, new RootDevice()), 0);
    }

    public PciBus Bus { get; }
    public (ulong, ulong) Ecam => (EcamAddress, EcamSize);

    Aml[] Describe(Board board)
    {
        var routes = new Aml[PciBus.Slots * Pins];
        for (int i = 0; i < routes.Length; i++)
        {
            int slot = i / Pins, pin = i % Pins;
            routes[i] = Package(Integer((ulong)slot << 16 | 0xFFFF), pin, 0, _firstGsi + (slot + pin) % Pins);
        }
        return
        [
            .. PcieTables.Identity,
            Name("_SEG", 0),
            Name("_BBN", 0),
            Name("_UID", 0),
            Name("_CCA", 1),
            Name("_CRS", Template(
                BusNumbers(0, 0xFF),
                MemoryWindow32(WindowStart, WindowEnd),
                MemoryWindow64(board.Layout.PciHole64, board.Layout.PciHole64 + board.Layout.PciHole64Size - 1))),
            PcieTables.Control(hasNativeHotPlug: true),
            Name("_PRT", Package(routes)),
        ];
    }

    sealed class RootDevice() : PciDevice(Root, "gpex-root")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }

    /// <summary>Stateless: its windows do not move.</summary>
    sealed class Host : IDevice
    {
        public string Name => "gpex-pcihost";
        public string PathName => "pci";
        public void Reset() { }
        public void Exchange(StateStream state) { }
    }
}
