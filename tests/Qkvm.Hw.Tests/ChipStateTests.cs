using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Hw.Char;
using Qkvm.Hw.Input;
using Qkvm.Hw.Intc;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Timer;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests;

/// <summary>The shared state suite over every chip, each brought into a busy state first.</summary>
public class ChipStateTests
{
    static void Write(IRegisterBank bank, params (ulong Register, ulong Value)[] values)
    {
        foreach (var (register, value) in values) bank.Write(register, 1, value);
    }

    [Fact]
    public void I8259_pair() => DeviceSuite.Check(
        bench => new I8259Pair(bench.Wire("intr")),
        device =>
        {
            var pic = (I8259Pair)device;
            Write(pic.Master, (0, 0x11), (1, 0x20), (1, 4), (1, 1));
            Write(pic.Slave, (0, 0x11), (1, 0x28), (1, 2), (1, 1));
            pic.SetIrq(9, true);
            pic.Acknowledge();
            pic.SetIrq(8, true);
        });

    [Fact]
    public void IOAPIC() => DeviceSuite.Check(
        _ => new IoApic(new ApicBus()),
        device =>
        {
            var ioApic = (IoApic)device;
            Write(ioApic, (0, 0x20), (0x10, 0x8030));
            ioApic.SetIrq(8, true);
        });

    [Theory]
    [InlineData(0x20050u, false)] [InlineData(0x00050u, false)] [InlineData(0x40050u, false)]
    [InlineData(0x20050u, true)]
    public void Local_APIC(uint timer, bool x2Apic) => DeviceSuite.Check(
        bench => new LocalApic(new FakeVCpu(1, bench.Clock), 1, false, new ApicBus(), bench.Clock, new MachineLock()),
        device =>
        {
            var apic = (LocalApic)device;
            apic.WriteMmio(0xF0, 0x1FF);
            apic.WriteMmio(0x320, timer);
            apic.WriteMmio(0x380, 50_000_000);
            apic.TscDeadline = 4_000_000_000;
            if (x2Apic) apic.WriteBaseMsr(apic.BaseMsr | 0x400);
            apic.Accept(DeliveryMode.Fixed, 0x61, true);
            apic.Acknowledge();
            apic.Accept(DeliveryMode.Fixed, 0x71, false);
            apic.SetLint0(true);
        });

    [Theory]
    [InlineData(0x34)] [InlineData(0x30)]
    public void I8254(byte controlWord) => DeviceSuite.Check(
        bench => new I8254(bench.Clock, bench.Wire("irq0")),
        device => Write((I8254)device, (3, controlWord), (0, 0xA9), (0, 4), (0, 0xA9), (0, 0xF4), (3, 0xB6), (2, 7),
            (3, 0xC2)));

    [Fact]
    public void Port_61() => DeviceSuite.Check(
        bench => new SystemControlPort(new I8254(bench.Clock, bench.Wire("irq0")), bench.Clock),
        device => Write((SystemControlPort)device, (0, 2)));

    [Fact]
    public void MC146818() => DeviceSuite.Check(
        bench => new Mc146818(bench.Clock, bench.Wire("irq8"), new DateTime(2024, 1, 1)),
        device => Write((Mc146818)device, (0, 10), (1, 0x26), (0, 11), (1, 0x72)),
        "cmos", "origin", "seen-second");

    [Fact]
    public void HPET() => DeviceSuite.Check(
        bench => new Hpet(bench.Clock, i => bench.Wire($"gsi{i}"), 0x00FF0104),
        device =>
        {
            var hpet = (Hpet)device;
            hpet.SetRtc(true);
            hpet.SetRtc(false);
            hpet.Write(0x100, 8, 16 << 9 | 0x4C);
            hpet.Write(0x108, 8, 100_000);
            hpet.Write(0x140, 8, 17 << 9 | 6);
            hpet.Write(0x148, 8, 500);
            hpet.Write(0x10, 8, 1);
        });

    [Fact]
    public void Keyboard_controller() => DeviceSuite.Check(
        bench => new I8042(bench.Wire("irq1"), bench.Wire("irq12"), _ => { }, () => { }, new InputRouter()),
        device =>
        {
            var controller = (I8042)device;
            Write(controller.Command, (0, 0xD4));
            Write(controller.Data, (0, 0xF4));
            controller.Keyboard.Key(KeyCode.Up, true);
            controller.Mouse.Pointer(500, 3, 0, MouseButtons.Left);
            Write(controller.Data, (0, 0xED));
        });

    [Fact]
    public void Port_92() => DeviceSuite.Check(_ => new Port92(_ => { }, () => { }),
        device => Write((Port92)device, (0, 2)));

    [Fact]
    public void UART() => DeviceSuite.Check(
        bench => new Uart16550A("serial0", bench.Clock, bench.Wire("irq4"), new FakeChar { Space = 0 }),
        device =>
        {
            var uart = (Uart16550A)device;
            Write(uart, (3, 0x83), (1, 1), (3, 3), (2, 0xC1), (1, 0x0F), (0, 'a'), (0, 'b'));
            uart.Receive("xyz"u8);
        });

    [Fact]
    public void Parallel_port() => DeviceSuite.Check(
        bench => new ParallelPort("parallel0", bench.Wire("irq7"), null),
        device => Write((ParallelPort)device, (0, 'a'), (2, 0x1C), (2, 0x1D)));

    [Fact]
    public void DMA_controllers() => DeviceSuite.Check(
        _ => new I8237Pair(new Dma(new AddressSpace("memory", MemoryRegion.Container("memory", 1), new MachineLock()))),
        device =>
        {
            var dma = (I8237Pair)device;
            Write(dma.Master, (0, 0x34), (11, 0x44), (10, 0));
            Write(dma.Slave, (2, 0x12), (2, 0x56));
            Write(dma.Pages, (7, 9));
        });

    [Fact]
    public void PC_test_device()
    {
        DeviceSuite.Check(
            bench => new BoundTestDev(new FakeBoard(bench)),
            device =>
            {
                var board = ((BoundTestDev)device).Board;
                board.Ports.Write(0xE0, 4, 0x12345678);
                board.Ports.Write(0x2005, 1, 1);
                board.Memory.Write(0xFF000010, 8, 0x1122334455667788);
            });
    }

    /// <summary>The test device with the board it mapped itself into.</summary>
    sealed class BoundTestDev(FakeBoard board) : IDevice
    {
        readonly PcTestDev _device = new(board.Site);
        public FakeBoard Board => board;
        public string Name => _device.Name;
        public void Reset() => _device.Reset();
        public void Exchange(Qkvm.Core.State.StateStream state) => _device.Exchange(state);
    }

    [Fact]
    public void PCI_test_device() => DeviceSuite.Check(
        _ => new PciTestDev(0, "-device pci-testdev"),
        device =>
        {
            IRegisterBank bank = ((PciTestDev)device).BarRegions[0]!.Bank!;
            Write(bank, (0, 2), (2050, 0xFA));
        });
}
