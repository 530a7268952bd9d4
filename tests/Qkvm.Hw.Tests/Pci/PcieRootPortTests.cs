using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>PCI Express Base 3.0, sections 6.7 and 7.8.</summary>
public sealed class PcieRootPortTests : IDisposable
{
    const int Slot = 2, DevFn = Slot << 3, MsiX = 0x48, Express = 0x54, SlotCapabilities = Express + 0x14,
        SlotControl = Express + 0x18, SlotStatus = Express + 0x1A, LinkStatus = Express + 0x12;
    const uint ButtonPressed = 0x01, PresenceChanged = 0x08, CommandCompleted = 0x10, PresenceState = 0x40;
    const uint HotPlugEnable = 0x20, PowerOff = 0x400, IndicatorOff = 0x300, LinkActive = 0x2000;

    readonly PciBench _bench = new();
    readonly List<PciDevice> _ejected = [];
    readonly PcieRootPort _port;

    public PcieRootPortTests() => _port = Plug(new Card(), null);

    public void Dispose() => _bench.Dispose();

    PcieRootPort Plug(Card? card, PciBench? on)
    {
        PciBench bench = on ?? _bench;
        var port = new PcieRootPort(bench.Bus, "rp", new PciePortOptions(3, 5, HasAccessControl: true), _ejected.Add);
        bench.Bus.Plug(port, DevFn);
        if (card != null) port.Secondary.Plug(card, 0);
        port.Reset();
        bench.Enable(port);
        return port;
    }

    uint Read(int offset, int size = 2) => _bench.Bus.ReadConfig(DevFn, offset, size);
    void Write(int offset, uint value, int size = 2) => _bench.Bus.WriteConfig(DevFn, offset, size, value);

    /// <summary>As QEMU's has it, read by a guest: with a card in the slot.</summary>
    [Fact]
    public void It_reads_as_the_specification_says()
    {
        Assert.Equal(0x000C1B36u, Read(0, 4));
        uint[] capabilities = [0x0000000D, 0x00001B36, 0x00004011, 0x00000000, 0x00000800, 0x01424810, 0x00008000, 0,
            0x03300604, 0x20110000, 0x002A007B, 0x004001C0, 0, 0, 0x00300020, 0, 0x0000001E, 0x00000004];
        Assert.Equal(capabilities, Enumerable.Range(0, capabilities.Length).Select(i => Read(0x40 + i * 4, 4)));
        Assert.Equal(0x1482_0001u, Read(0x100, 4));
        Assert.Equal(0x0001_000Du, Read(0x148, 4));
    }

    [Fact]
    public void Empty_it_is_off_at_power_on()
    {
        using var other = new PciBench();
        Plug(null, other);
        Assert.Equal(0x7C0u, other.Bus.ReadConfig(DevFn, SlotControl, 2));
        Assert.Equal(0u, other.Bus.ReadConfig(DevFn, SlotStatus, 2));
        Assert.Equal(0u, other.Bus.ReadConfig(DevFn, LinkStatus, 2) & LinkActive);
    }

    [Fact]
    public void A_card_that_comes_later_is_announced_by_its_interrupt()
    {
        _port.Secondary.Unplug(_port.Secondary[0]!);
        Write(SlotStatus, 0x1F);
        Write(SlotControl, PowerOff | IndicatorOff | HotPlugEnable | PresenceChanged | ButtonPressed);
        Write(SlotStatus, CommandCompleted);
        Assert.False(_bench.Inta);
        _port.Secondary.Plug(new Card(), 0);
        Assert.Equal(ButtonPressed | PresenceChanged | PresenceState, Read(SlotStatus));
        Assert.Equal(LinkActive, Read(LinkStatus) & LinkActive);
        Assert.True(_bench.Inta);
        Write(SlotStatus, ButtonPressed | PresenceChanged);
        Assert.False(_bench.Inta);
        Assert.Equal(PresenceState, Read(SlotStatus));
    }

    [Fact]
    public void By_MSI_X_each_rise_is_one_message()
    {
        Write(PciConfig.Bar0, 0x8000_0000, 4);
        _bench.Memory.Space.Write(0x8000_0000, 4, 0xFEE0_0000);
        _bench.Memory.Space.Write(0x8000_0008, 4, 0x41);
        _bench.Memory.Space.Write(0x8000_000C, 4, 0);
        Write(MsiX + 2, 0x8000);
        Write(SlotControl, 0x100 | HotPlugEnable | ButtonPressed);
        _port.Secondary.Bridge!.Bus.WriteConfig(DevFn, SlotStatus, 2, 0x1F);
        Ask();
        Ask();
        Assert.Equal([(0xFEE0_0000UL, 0x41u)], _bench.Messages);
        Write(SlotStatus, ButtonPressed);
        Ask();
        Assert.Equal(2, _bench.Messages.Count);
        Assert.False(_bench.Inta);
    }

    /// <summary>Section 6.7.1.1.1: the button asks, and the guest answers by switching the power off.</summary>
    [Fact]
    public void The_guest_lets_go_of_a_card_by_switching_it_off()
    {
        Ask();
        Assert.Equal(ButtonPressed, Read(SlotStatus) & ButtonPressed);
        Assert.Empty(_ejected);
        Write(SlotControl, IndicatorOff);                          // the indicator alone
        Assert.Empty(_ejected);
        Write(SlotControl, IndicatorOff | PowerOff);
        Assert.Equal([_port.Secondary[0]!], _ejected);
        Write(SlotControl, IndicatorOff | PowerOff);
        Assert.Single(_ejected);
        _port.Secondary.Unplug(_ejected[0]);
        Assert.Equal(PresenceChanged, Read(SlotStatus) & (PresenceState | PresenceChanged));
        Assert.Equal(0u, Read(LinkStatus) & LinkActive);
    }

    [Fact]
    public void What_is_off_already_goes_at_once()
    {
        Write(SlotControl, IndicatorOff | PowerOff);
        _ejected.Clear();
        _port.Reset();
        Write(SlotControl, PowerOff);
        Ask();
        Assert.Single(_ejected);
    }

    [Fact]
    public void A_state_comes_back()
    {
        Write(SlotControl, 0x100 | HotPlugEnable | ButtonPressed);
        Ask();
        StateNode saved = StateNode.Save(_port.Exchange);
        using var other = new PciBench();
        PcieRootPort fresh = Plug(new Card(), other);
        saved.Load(fresh.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(fresh.Exchange).ToString());
        Assert.True(fresh.IntX.Level);
    }

    void Ask() => ((Core.Devices.IBusWires)_port.Secondary).RequestUnplug(_port.Secondary[0]!);

    sealed class Card() : PciDevice(new PciIdentity(0x1AF4, 0x1000, 0x020000), "card")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }
}
