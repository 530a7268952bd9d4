using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;

namespace Qkvm.Machines.Tests.Q35;

/// <summary>Intel I/O Controller Hub 9, order 316972, section 13.1 and chapter 10.</summary>
public sealed class Ich9LpcTests
{
    const int Lpc = ChipsetBench.LpcDevFn, PmBase = 0x40, AcpiControl = 0x44, PirqA = 0x60, PirqE = 0x68, Rcba = 0xF0;
    const uint Root = 0xFED1_C000;

    readonly ChipsetBench _bench = new();

    /// <summary>Slots of the board rotate PIRQ E to H; the chip's own devices lead straight to A to D.</summary>
    [Theory]
    [InlineData(0, 0, 4)] [InlineData(1, 0, 5)] [InlineData(2, 3, 5)] [InlineData(24, 2, 6)] [InlineData(25, 0, 0)]
    [InlineData(31, 0, 0)] [InlineData(31, 2, 2)]
    public void Pins_lead_to_the_router(int slot, int pin, int input) =>
        Assert.Equal(input, _bench.Lpc.RouteSlot(slot, pin));

    [Fact]
    public void D31IR_routes_the_pins_of_device_31()
    {
        _bench.Bus.WriteConfig(Lpc, Rcba, 4, Root | 1);
        Assert.Equal(0x3210u, _bench.Memory.Read(Root + 0x3140, 2));
        _bench.Memory.Write(Root + 0x3140, 2, 0x3217);
        Assert.Equal(7, _bench.Lpc.RouteSlot(31, 0));
        Assert.Equal(0, _bench.Lpc.RouteSlot(30, 0));
    }

    [Fact]
    public void A_pin_reaches_its_GSI_and_the_ISA_interrupt_that_it_is_routed_to()
    {
        var device = new Source();
        _bench.Bus.Plug(device, 2 << 3);                           // INTA# of slot 2: PIRQG
        device.IntX.Set(true);
        Assert.Equal([(22, true)], _bench.Edges);
        _bench.Bus.WriteConfig(Lpc, PirqE + 2, 1, 10);
        Assert.Equal([(22, true), (10, true)], _bench.Edges);
        device.IntX.Set(false);
        Assert.Equal([(22, true), (10, true), (22, false), (10, false)], _bench.Edges);
        _bench.Bus.WriteConfig(Lpc, PirqE + 2, 1, 2);              // reserved
        device.IntX.Set(true);
        Assert.Equal((22, true), _bench.Edges[^1]);
    }

    [Fact]
    public void The_power_management_block_appears_where_PMBASE_says_while_ACPI_EN_is_set()
    {
        _bench.Bus.WriteConfig(Lpc, PmBase, 4, 0x601);
        Assert.Equal(0xFFFFu, _bench.Ports.Read(0x604, 2));
        _bench.Bus.WriteConfig(Lpc, AcpiControl, 1, 0x80);
        Assert.Equal(0u, _bench.Ports.Read(0x604, 2));
        Assert.Equal(0x600u, _bench.Lpc.PowerManagementBase);
        _bench.Bus.WriteConfig(Lpc, PmBase, 4, 0xB001);
        Assert.Equal(0xFFFFu, _bench.Ports.Read(0x604, 2));
        Assert.Equal(0u, _bench.Ports.Read(0xB004, 2));
    }

    /// <summary>13.1.13: the system control interrupt is 9, or what SCI_IRQ_SEL chooses.</summary>
    [Theory]
    [InlineData(0, 9)] [InlineData(1, 10)] [InlineData(2, 11)] [InlineData(4, 20)]
    public void The_power_button_interrupts(int select, int gsi)
    {
        _bench.Bus.WriteConfig(Lpc, PmBase, 4, 0x601);
        _bench.Bus.WriteConfig(Lpc, AcpiControl, 1, 0x80 | (uint)select);
        _bench.Ports.Write(0xB2, 1, Ich9Pm.AcpiEnable);
        _bench.Ports.Write(0x602, 2, 0x100);
        _bench.Pm.Acpi.PressPowerButton();
        Assert.Equal([(gsi, true)], _bench.Edges);
        _bench.Ports.Write(0x600, 2, 0x100);
        Assert.Equal([(gsi, true), (gsi, false)], _bench.Edges);
    }

    [Fact]
    public void Soft_off_and_the_general_purpose_events()
    {
        _bench.Bus.WriteConfig(Lpc, PmBase, 4, 0x601);
        _bench.Bus.WriteConfig(Lpc, AcpiControl, 1, 0x80);
        _bench.Ports.Write(0x628, 4, 0xFFFF_FFFF);                 // GPE0_EN
        _bench.Ports.Write(0x62C, 4, 0x1234_5678);
        Assert.Equal(0x1234_5678_FFFF_FFFFUL,
            _bench.Ports.Read(0x628, 4) | _bench.Ports.Read(0x62C, 4) << 32);
        Assert.Equal(0u, _bench.Ports.Read(0x620, 4));
        Assert.Equal(0, _bench.SoftOffs);
        _bench.Ports.Write(0x604, 2, 0x2000);
        Assert.Equal(1, _bench.SoftOffs);
    }

    [Fact]
    public void A_state_comes_back_without_an_edge()
    {
        var device = new Source();
        _bench.Bus.Plug(device, 2 << 3);
        _bench.Bus.WriteConfig(Lpc, PirqE + 2, 1, 10);
        _bench.Bus.WriteConfig(Lpc, PmBase, 4, 0x601);
        _bench.Bus.WriteConfig(Lpc, AcpiControl, 1, 0x80);
        device.IntX.Set(true);
        StateNode saved = StateNode.Save(_bench.Lpc.Exchange);
        var fresh = new ChipsetBench();
        saved.Load(fresh.Lpc.Exchange);
        Assert.Empty(fresh.Edges);
        Assert.Equal(saved.ToString(), StateNode.Save(fresh.Lpc.Exchange).ToString());
        Assert.Equal(0u, fresh.Ports.Read(0x604, 2));              // the block is in its place
    }

    sealed class Source() : PciDevice(new PciIdentity(0x1AF4, 0x1000, 0x020000), "source")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }
}
