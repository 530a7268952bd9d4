using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Hw.Char;
using Qkvm.Hw.Isa;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Isa;

public class IsaDeviceTests
{
    readonly FakeBoard _board = new(new DeviceBench(new FakeClock()));

    IDevice Create(DeviceModel model, params (string, string)[] given) =>
        model.Create(FakeBoard.Defaults(model, given), _board.Site);

    [Theory]
    [InlineData(0, 1)] [InlineData(1, 3)] [InlineData(0x10, 0x21)]
    public void Debug_exit_ends_with_twice_the_value_plus_one(ulong value, int status)
    {
        Create(IsaDebugExit.Model);
        _board.Ports.Write(0x501, 1, value);
        Assert.Equal([$"GuestShutdown {status}"], _board.Requests);
    }

    [Fact]
    public void Debug_exit_moves_with_its_properties()
    {
        Create(IsaDebugExit.Model, ("iobase", "0xf4"), ("iosize", "0x04"));
        _board.Ports.Write(0xF4, 4, 5);
        Assert.Equal(["GuestShutdown 11"], _board.Requests);
    }

    [Fact]
    public void The_debug_console_writes_and_identifies_itself()
    {
        Create(Debugcon.Model, ("chardev", "c"));
        _board.Ports.Write(0xE9, 1, 'q');
        Assert.Equal("q", _board.Chardev.Text);
        Assert.Equal(0xE9UL, _board.Ports.Read(0xE9, 1));
    }

    [Fact]
    public void Character_devices_need_a_backend()
    {
        foreach (DeviceModel model in (DeviceModel[])[Debugcon.Model, IsaSerial.Model, ParallelPort.Model])
        {
            var e = Assert.Throws<ConfigurationException>(() => Create(model));
            Assert.Contains("chardev=", e.Message);
        }
    }

    [Fact]
    public void Pvpanic_tells_its_events_and_reports_a_panic()
    {
        Create(Pvpanic.Model);
        Assert.Equal(3UL, _board.Ports.Read(0x505, 1));
        _board.Ports.Write(0x505, 1, 2);
        Assert.Empty(_board.Requests);
        _board.Ports.Write(0x505, 1, 1);
        Assert.Equal(["GuestPanic 0"], _board.Requests);
    }

    [Fact]
    public void Serial_ports_take_the_next_free_COM_place()
    {
        Create(IsaSerial.Model, ("chardev", "a"));
        Create(IsaSerial.Model, ("chardev", "b"));
        Assert.True(_board.Ports.View.TryFind(0x2F8, out FlatRange range));
        Assert.Equal("serial1", range.Region.Name);
        Assert.Equal([4, 3], _board.Irqs.Keys);
        Create(IsaSerial.Model, ("chardev", "c"), ("index", "3"));
        Assert.True(_board.Ports.View.TryFind(0x2E8, out _));
        Assert.Throws<ConfigurationException>(() => Create(IsaSerial.Model, ("chardev", "d"), ("index", "4")));
    }

    [Fact]
    public void The_PC_test_device_echoes_and_drives_interrupts()
    {
        Create(PcTestDev.Model);
        _board.Ports.Write(0xE0, 4, 0x11223344);
        Assert.Equal(0x11223344UL, _board.Ports.Read(0xE0, 4));
        Assert.Equal(0x33UL, _board.Ports.Read(0xE9, 1));
        _board.Ports.Write(0xE8, 2, 0xAABB);
        Assert.Equal(0x1122AABBUL, _board.Ports.Read(0xE0, 4));
        _board.Ports.Write(0xE4, 4, 0x1000);
        Assert.Equal(0UL, _board.Ports.Read(0xE4, 4));
        _board.Ports.Write(0x200A, 1, 1);
        Assert.True(_board.Irqs[10].Level);
        _board.Ports.Write(0x200A, 1, 0);
        Assert.False(_board.Irqs[10].Level);
        _board.Memory.Write(0xFF00FFFE, 2, 0xBEEF);
        Assert.Equal(0xBEEFUL, _board.Memory.Read(0xFF00FFFE, 2));
    }

    [Theory]
    [InlineData(0, 0, 0x0100u, 0x800u, 0xFAu)] [InlineData(0, 1, 0x0101u, 0x801u, 0xCEu)]
    [InlineData(1, 0, 0x0103u, 0x83u, 0xFAu)]
    [InlineData(1, 2, 0x0105u, 0x85u, 0xFAu)] [InlineData(1, 3, 0u, 0u, 0u)]
    public void The_PCI_test_device_announces_its_tests(int bar, byte test, uint first, uint offset, uint data)
    {
        var device = new PciTestDev(0, "");
        IRegisterBank bank = device.BarRegions[bar]!.Bank!;
        bank.Write(0, 1, test);
        Assert.Equal([first, offset, data, 0], new ulong[] { 0, 4, 8, 12 }.Select(o => (uint)bank.Read(o, 4)));
        bank.Write(offset, 1, data);
        bank.Write(offset, 1, data);
        Assert.Equal(first == 0 ? 0UL : 2UL, bank.Read(12, 4));
        bank.Write(offset, 1, 0x55);
        Assert.Equal(test == 2 ? 2UL : first == 0 ? 0UL : 3UL, bank.Read(12, 4));
    }

    [Theory]
    [InlineData("3")] [InlineData("8")]
    public void The_PCI_test_devices_memory_BAR_is_a_power_of_two(string size) =>
        Assert.Throws<ConfigurationException>(() => Create(PciTestDev.Model, ("membar", size)));

    [Fact]
    public void DMA_registers_pass_through_the_flip_flop()
    {
        using var memory = new TestMemory();
        var dma = new I8237Pair(new Dma(memory.Space));
        dma.Master.Write(12, 1, 0);
        dma.Master.Write(4, 1, 0x34);
        dma.Master.Write(4, 1, 0x12);
        Assert.Equal((0x34UL, 0x12UL), (dma.Master.Read(4, 1), dma.Master.Read(4, 1)));
        Assert.Equal(0xFFUL, dma.Master.Read(15, 1));
        dma.Master.Write(10, 1, 2);
        dma.Master.Write(9, 1, 5);
        Assert.Equal(0xFBUL, dma.Master.Read(15, 1));
        Assert.Equal(0x20UL, dma.Master.Read(8, 1));
        dma.Master.Write(13, 1, 0);
        Assert.Equal(0xFFUL, dma.Master.Read(15, 1));
        dma.Slave.Write(0xC * 2, 1, 0);
        dma.Slave.Write(2, 1, 0x78);
        dma.Slave.Write(24, 1, 0);
        Assert.Equal(0x78UL, dma.Slave.Read(2, 1));
        dma.Pages.Write(0, 1, 0x42);
        Assert.Equal(0x42UL, dma.Pages.Read(0, 1));
    }

    [Fact]
    public void The_parallel_port_prints_on_the_strobe_and_interrupts()
    {
        Create(ParallelPort.Model, ("chardev", "p"));
        _board.Ports.Write(0x378, 1, 'x');
        Assert.Equal(0xD8UL, _board.Ports.Read(0x379, 1));
        _board.Ports.Write(0x37A, 1, 0x1D);
        _board.Ports.Write(0x37A, 1, 0x1C);
        Assert.Equal("x", _board.Chardev.Text);
        Assert.True(_board.Irqs[7].Level);
        _board.Ports.Read(0x379, 1);
        Assert.False(_board.Irqs[7].Level);
    }

    [Fact]
    public void The_parallel_port_is_busy_while_the_backend_has_no_room()
    {
        Create(ParallelPort.Model, ("chardev", "p"));
        _board.Chardev.Space = 0;
        _board.Ports.Write(0x378, 1, 'x');
        _board.Ports.Write(0x37A, 1, 0x0D);
        Assert.Equal(0x58UL, _board.Ports.Read(0x379, 1));
        _board.Chardev.Space = 1;
        _board.Chardev.Frontend!.Writable();
        Assert.Equal(0xD8UL, _board.Ports.Read(0x379, 1));
        Assert.Equal("x", _board.Chardev.Text);
    }
}
