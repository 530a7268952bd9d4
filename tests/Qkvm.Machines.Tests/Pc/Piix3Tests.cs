using Qkvm.Core.Irq;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;

namespace Qkvm.Machines.Tests.Pc;

public sealed class Piix3Tests
{
    readonly List<(int Irq, bool Level)> _seen = [];
    readonly PciBus _bus;
    readonly Piix3 _bridge;
    readonly Source _device = new();

    public Piix3Tests()
    {
        (_bridge, _bus) = Make(_device);
    }

    (Piix3, PciBus) Make(Source device)
    {
        Piix3 bridge =
            new([.. Enumerable.Range(0, 16).Select(i => new IrqLine($"irq{i}", level => _seen.Add((i, level))))],
            () => { });
        PciBus bus =
            TestBus.Make([.. Enumerable.Range(0, 4).Select<int,
            Action<bool>>(i => active => bridge.SetInput(i, active))]);
        bus.Plug(bridge, 1 << 3);
        bus.Plug(device, 3 << 3);
        return (bridge, bus);
    }

    [Theory]
    [InlineData(1, 0, 0)] [InlineData(3, 0, 2)] [InlineData(4, 0, 3)] [InlineData(4, 1, 0)] [InlineData(5, 3, 3)]
    [InlineData(31, 3, 1)]
    public void Slots_rotate_the_pins(int slot, int pin, int input) => Assert.Equal(input, Piix3.RouteSlot(slot, pin));

    [Fact]
    public void An_input_reaches_the_interrupt_that_its_route_register_names()
    {
        _bus.WriteConfig(1 << 3, 0x62, 1, 11);
        _device.IntX.Set(true);
        _device.IntX.Set(false);
        Assert.Equal([(11, true), (11, false)], _seen);
    }

    [Theory]
    [InlineData(0x80)] [InlineData(0x8B)] [InlineData(0x02)] [InlineData(0x08)] [InlineData(0x0D)]
    public void A_disabled_or_reserved_route_leads_nowhere(byte route)
    {
        _bus.WriteConfig(1 << 3, 0x62, 1, route);
        _device.IntX.Set(true);
        Assert.Empty(_seen);
        Assert.Equal(-1, _bridge.RouteOf(2));
    }

    [Fact]
    public void Changing_the_route_moves_a_level_that_is_high()
    {
        _bus.WriteConfig(1 << 3, 0x62, 1, 10);
        _device.IntX.Set(true);
        _seen.Clear();
        _bus.WriteConfig(1 << 3, 0x62, 1, 5);
        Assert.Equivalent(new[] { (5, true), (10, false) }, _seen);
    }

    [Fact]
    public void Loading_a_raised_input_makes_no_edge()
    {
        _bus.WriteConfig(1 << 3, 0x62, 1, 11);
        _device.IntX.Set(true);
        StateNode bridge = StateNode.Save(_bridge.Exchange), device = StateNode.Save(_device.Exchange);

        var second = new Source();
        var (copy, _) = Make(second);
        _seen.Clear();
        bridge.Load(copy.Exchange);
        device.Load(second.Exchange);
        Assert.Empty(_seen);
        Assert.Equal(bridge.ToString(), StateNode.Save(copy.Exchange).ToString());
        second.IntX.Set(false);
        Assert.Equal([(11, false)], _seen);
    }

    sealed class Source() : PciDevice(new PciIdentity(0x1AF4, 0x1000, 0x020000), "source")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }
}
