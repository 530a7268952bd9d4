using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>QEMU's docs/specs/acpi_pci_hotplug.</summary>
public sealed class AcpiPciHotPlugTests : IDisposable
{
    const ulong Up = 0, Down = 4, Eject = 8, Selector = 0x10, Index = 0x14;
    const int Bit1 = 1 << AcpiPciHotPlug.Gpe;

    readonly PciBench _bench = new();
    readonly List<PciDevice> _ejected = [];
    readonly GpeBlock _gpe = new(4, () => { });
    readonly AcpiPciHotPlug _registers;

    public AcpiPciHotPlugTests()
    {
        _registers = new AcpiPciHotPlug(_gpe, _ejected.Add);
        _registers.Attach(_bench.Bus);
    }

    public void Dispose() => _bench.Dispose();

    Card Plug(int slot, int function = 0, uint index = 0)
    {
        var card = new Card { AcpiIndex = index, IsMultifunction = true };
        _bench.Bus.Plug(card, slot << 3 | function);
        return card;
    }

    ulong Read(ulong offset) => _registers.Read(offset, 4);
    void Write(ulong offset, uint value) => _registers.Write(offset, 4, value);
    ulong Event => _gpe.Read(0, 1);

    [Fact]
    public void A_card_that_comes_raises_event_1_and_its_bit_until_that_is_read()
    {
        Plug(7);
        Assert.Equal((ulong)Bit1, Event);
        Assert.Equal((1ul << 7, 0ul), (Read(Up), Read(Down)));
        Assert.Equal(0ul, Read(Up));
    }

    [Fact]
    public void The_guest_lets_go_of_all_functions_of_a_slot_it_was_asked_for()
    {
        Card first = Plug(3), second = Plug(3, 1);
        Plug(4);
        _gpe.Write(0, 1, Bit1);
        ((IPciHotPlug)_registers).RequestRemoval(first);
        Assert.Equal(((ulong)Bit1, 1ul << 3), (Event, Read(Down)));
        Assert.Equal([first, second], _registers.Leaving);
        Assert.Empty(_ejected);
        Write(Eject, 1 << 3);
        Assert.Equal([first, second], _ejected);
        Assert.Equal(0ul, Read(Down));
        Assert.Empty(_registers.Leaving);
    }

    [Fact]
    public void A_bus_that_is_not_there_has_no_slots()
    {
        Plug(3);
        Write(Selector, 1);
        Assert.Equal((1ul, 0ul, 0ul), (Read(Selector), Read(Up), Read(Down)));
        Write(Eject, uint.MaxValue);
        Assert.Empty(_ejected);
        Write(Selector, 0);
        Assert.Equal(1ul << 3, Read(Up));
    }

    [Fact]
    public void The_index_of_a_card_is_read_once()
    {
        Plug(5, index: 77);
        Write(Index, 1 << 5);
        Assert.Equal((77ul, 0ul), (Read(Index), Read(Index)));
        Write(Index, 1 << 6);
        Assert.Equal(0ul, Read(Index));
    }

    [Fact]
    public void What_is_taken_out_leaves_no_event()
    {
        Card card = Plug(9);
        ((IPciHotPlug)_registers).RequestRemoval(card);
        _bench.Bus.Unplug(card);
        Assert.Equal((0ul, 0ul), (Read(Down), Read(Up)));
    }

    [Fact]
    public void A_bridge_of_the_board_s_own_stays()
    {
        var bridge = new RedHatPciBridge(_bench.Bus, "br", 1);
        _bench.Bus.Plug(bridge, 2 << 3);
        _registers.Attach(bridge.Secondary);
        Write(Eject, 1 << 2);
        Assert.Empty(_ejected);
        Assert.Equal(1, _registers.NumberOf(bridge.Secondary));
        var card = new Card();
        bridge.Secondary.Plug(card, 1 << 3);
        Write(Selector, 1);
        Assert.Equal(1ul << 1, Read(Up));
        Write(Eject, 1 << 1);
        Assert.Equal([card], _ejected);
    }

    [Fact]
    public void Its_state_comes_back()
    {
        Card card = Plug(3, index: 5);
        ((IPciHotPlug)_registers).RequestRemoval(card);
        Write(Index, 1 << 3);
        StateNode saved = StateNode.Save(_registers.Exchange);
        using var bench = new PciBench();
        var other = new AcpiPciHotPlug(new GpeBlock(4, () => { }), _ => { });
        other.Attach(bench.Bus);
        saved.Load(other.Exchange);
        Assert.Equal((1ul << 3, 1ul << 3, 5ul), (other.Read(Up, 4), other.Read(Down, 4), other.Read(Index, 4)));
        other.Reset();
        Assert.Equal((0ul, 0ul), (other.Read(Up, 4), other.Read(Down, 4)));
    }

    sealed class Card() : PciDevice(new PciIdentity(0x1AF4, 0x1000, 0x020000), "card")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }
}
