using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>PCI-to-PCI Bridge Architecture Specification 1.2.</summary>
public sealed class PciBridgeTests : IMsiTarget, IDisposable
{
    const int Command = PciConfig.Command, SecondaryBus = 0x18, IoWindow = 0x1C, MemoryWindow = 0x20,
        PrefetchableWindow = 0x24, Control = 0x3E;
    const uint Open = PciConfig.IoSpace | PciConfig.MemorySpace | PciConfig.BusMaster;

    readonly TestMemory _memory = new();
    readonly List<(int Input, bool Level)> _edges = [];
    readonly PciBus _root;

    public PciBridgeTests() => _root = new PciBus("pci.0", _memory.Root, _memory.PortRoot, _memory.Space, this,
        Piix3.RouteSlot, [.. Enumerable.Range(0, 4).Select<int, Action<bool>>(i => level => _edges.Add((i, level)))]);

    public void Dispose() => _memory.Dispose();

    void IMsiTarget.Send(ulong address, uint data) { }

    RedHatPciBridge Bridge(PciBus parent, int slot, int secondary = 0, int subordinate = 0)
    {
        var bridge = new RedHatPciBridge(parent, $"{parent.Id}.{slot}", 1);
        parent.Plug(bridge, slot << 3);
        bridge.Reset();
        parent.WriteConfig(slot << 3, SecondaryBus, 4, (uint)(secondary << 8 | subordinate << 16));
        return bridge;
    }

    Card Plug(PciBus bus, int slot, byte pin = 1)
    {
        var card = new Card(pin);
        bus.Plug(card, slot << 3);
        card.Reset();
        return card;
    }

    /// <summary>As QEMU's has it, read by a guest.</summary>
    [Fact]
    public void A_new_one_reads_as_the_specification_says()
    {
        Bridge(_root, 2);
        uint[] expected = [0x00011B36, 0x00B00000, 0x06040000, 0x00010000, 0, 0, 0, 0x00A00000, 0, 0x00010001, 0, 0,
            0, 0x44, 0, 0, 0x01200004];
        Assert.Equal(expected, Enumerable.Range(0, 17).Select(i => _root.ReadConfig(2 << 3, i * 4, 4)));
        for (int i = 0; i < 64; i++) _root.WriteConfig(2 << 3, i * 4, 4, uint.MaxValue);
        uint[] written = [0x00011B36, 0x00B00547, 0x06040000, 0x000100FF, 0, 0, uint.MaxValue, 0x00A0F0F0, 0xFFF0FFF0,
            0xFFF1FFF1, uint.MaxValue, uint.MaxValue, 0, 0x44, 0, 0x0BFF00FF, 0xFF200004];
        Assert.Equal(written, Enumerable.Range(0, 17).Select(i => _root.ReadConfig(2 << 3, i * 4, 4)));
    }

    /// <summary>Section 3.1.2.1: by number; what a bridge's range includes goes on to its own bridges.</summary>
    [Fact]
    public void Configuration_cycles_reach_the_bus_of_their_number()
    {
        RedHatPciBridge first = Bridge(_root, 2, 1, 3), second = Bridge(_root, 3, 4, 4);
        RedHatPciBridge inner = Bridge(first.Secondary, 5, 3, 3);
        Assert.Same(_root, _root.Find(0));
        Assert.Same(first.Secondary, _root.Find(1));
        Assert.Null(_root.Find(2));                                // forwarded, and nobody has that number
        Assert.Same(inner.Secondary, _root.Find(3));
        Assert.Same(second.Secondary, _root.Find(4));
        Assert.Null(_root.Find(5));
        _root.WriteConfig(2 << 3, SecondaryBus, 4, 0x00_01_01_00);
        Assert.Null(_root.Find(3));
        // numbers that make no sense end nevertheless
        _root.WriteConfig(2 << 3, SecondaryBus, 4, 0x00_FF_00_00);
        first.Secondary.WriteConfig(5 << 3, SecondaryBus, 4, 0x00_FF_00_00);
        Assert.Null(_root.Find(200));
    }

    /// <summary>Sections 4.2 and 4.3: inside the windows alone, and only while the bridge decodes.</summary>
    [Fact]
    public void Accesses_pass_where_a_window_is_open()
    {
        RedHatPciBridge bridge = Bridge(_root, 2, 1, 1);
        Card card = Plug(bridge.Secondary, 0);
        bridge.Secondary.WriteConfig(0, PciConfig.Bar0, 4, 0xC010_0000);
        bridge.Secondary.WriteConfig(0, PciConfig.Bar0 + 4, 4, 0xD020);
        bridge.Secondary.WriteConfig(0, PciConfig.Bar0 + 8, 4, 0x8000_0000);
        bridge.Secondary.WriteConfig(0, PciConfig.Bar0 + 12, 4, 0x8);
        bridge.Secondary.WriteConfig(0, Command, 2, Open);
        Assert.Equal((0xFFul, 0xFFul, 0xFFul), Seen());
        _root.WriteConfig(2 << 3, MemoryWindow, 4, 0xC010_C010);
        _root.WriteConfig(2 << 3, IoWindow, 2, 0xD0D0);
        _root.WriteConfig(2 << 3, PrefetchableWindow, 4, 0x8000_8000);
        _root.WriteConfig(2 << 3, PrefetchableWindow + 4, 4, 0x8);
        _root.WriteConfig(2 << 3, PrefetchableWindow + 8, 4, 0x8);
        Assert.Equal((0xFFul, 0xFFul, 0xFFul), Seen());
        _root.WriteConfig(2 << 3, Command, 2, PciConfig.MemorySpace);
        Assert.Equal((0x5Aul, 0xFFul, 0x5Aul), Seen());
        _root.WriteConfig(2 << 3, Command, 2, Open);
        Assert.Equal((0x5Aul, 0x5Aul, 0x5Aul), Seen());
        _memory.Space.Write(0xC010_0003, 1, 0x77);
        Assert.Equal((3ul, 0x77ul), card.Written);

        _root.WriteConfig(2 << 3, MemoryWindow, 4, 0xC020_C020);   // beside it
        Assert.Equal((0xFFul, 0x5Aul, 0x5Aul), Seen());
        _root.WriteConfig(2 << 3, MemoryWindow, 4, 0xC000_C020);   // the limit is below the base
        Assert.Equal((0xFFul, 0x5Aul, 0x5Aul), Seen());
        _root.WriteConfig(2 << 3, MemoryWindow, 4, 0xC020_C000);   // around it
        Assert.Equal((0x5Aul, 0x5Aul, 0x5Aul), Seen());
        _root.WriteConfig(2 << 3, PrefetchableWindow + 8, 4, uint.MaxValue); // beyond all of memory
        Assert.Equal((0x5Aul, 0x5Aul, 0x5Aul), Seen());
        bridge.Reset();
        Assert.Equal((0xFFul, 0xFFul, 0xFFul), Seen());

        (ulong, ulong, ulong) Seen() => (_memory.Space.Read(0xC010_0003, 1), _memory.Ports.Read(0xD023, 1),
            _memory.Space.Read(0x8_8000_0003, 1));
    }

    /// <summary>Section 9.1: pin and slot rotate at each bridge.</summary>
    [Theory]
    [InlineData(0, 1)] [InlineData(0, 4)] [InlineData(3, 1)] [InlineData(7, 2)] [InlineData(30, 3)]
    public void Interrupts_rotate_through_bridges(int slot, byte pin)
    {
        RedHatPciBridge outer = Bridge(_root, 4), inner = Bridge(outer.Secondary, 9);
        Card card = Plug(inner.Secondary, slot, pin);
        int onInner = (pin - 1 + slot) % 4, onOuter = (onInner + 9) % 4, input = Piix3.RouteSlot(4, onOuter);
        card.IntX.Set(true);
        card.IntX.Set(false);
        Assert.Equal([(input, true), (input, false)], _edges);
    }

    [Fact]
    public void A_wire_is_high_while_anybody_pulls_it()
    {
        RedHatPciBridge bridge = Bridge(_root, 2);
        Card before = Plug(_root, 6), behind = Plug(bridge.Secondary, 0), beside = Plug(bridge.Secondary, 4);
        foreach (Card card in (Card[])[behind, before, beside]) card.IntX.Set(true);
        foreach (Card card in (Card[])[before, behind]) card.IntX.Set(false);
        int input = Piix3.RouteSlot(2, 0);
        Assert.Equal([(input, true)], _edges);                     // all three share it
        beside.IntX.Set(false);
        Assert.Equal([(input, true), (input, false)], _edges);
    }

    /// <summary>The router has its own state: loading raises no edge, and the wire falls with the last.</summary>
    [Fact]
    public void A_loaded_wire_falls_when_its_device_lets_go()
    {
        Card card = Plug(Bridge(_root, 2).Secondary, 1);
        card.IntX.Set(true);
        StateNode state = StateNode.Save(card.Exchange);
        card.IntX.Set(false);
        _edges.Clear();
        state.Load(card.Exchange);
        Assert.Empty(_edges);
        card.IntX.Set(false);
        Assert.Equal([(Piix3.RouteSlot(2, 1), false)], _edges);
    }

    /// <summary>Section 3.2.5.18, bit 6: once as it is set.</summary>
    [Fact]
    public void Secondary_bus_reset_resets_what_is_behind()
    {
        RedHatPciBridge bridge = Bridge(_root, 2);
        Card card = Plug(bridge.Secondary, 0);
        int before = card.Resets;
        _root.WriteConfig(2 << 3, Control, 2, 0x40);
        _root.WriteConfig(2 << 3, Control, 2, 0x41);
        Assert.Equal(before + 1, card.Resets);
        _root.WriteConfig(2 << 3, Control, 2, 0);
        _root.WriteConfig(2 << 3, Control, 2, 0x40);
        Assert.Equal(before + 2, card.Resets);
    }

    /// <summary>Section 4.5.1: the addresses of VGA, whatever the windows are.</summary>
    [Fact]
    public void VGA_enable_forwards_the_old_screen()
    {
        RedHatPciBridge bridge = Bridge(_root, 2);
        var bank = new Card(1);
        bridge.Secondary.MemorySpace.Map(0xA0000, MemoryRegion.Io("vga", 0x20000, bank, AccessSizes.Bytes));
        bridge.Secondary.IoSpace.Map(0x3C0, MemoryRegion.Io("vga", 16, bank, AccessSizes.Bytes));
        _root.WriteConfig(2 << 3, MemoryWindow, 4, 0x0000_FFF0);   // no window is open
        _root.WriteConfig(2 << 3, PrefetchableWindow, 4, 0x0000_FFF0);
        _root.WriteConfig(2 << 3, IoWindow, 2, 0x00F0);
        _root.WriteConfig(2 << 3, Command, 2, Open);
        Assert.Equal((0ul, 0xFFul), Seen());                      // RAM of the bench, and nobody
        _root.WriteConfig(2 << 3, Control, 2, 8);
        Assert.Equal((0x5Aul, 0x5Aul), Seen());
        _root.WriteConfig(2 << 3, Control, 2, 0);
        Assert.Equal((0ul, 0xFFul), Seen());

        (ulong, ulong) Seen() => (_memory.Space.Read(0xB8000, 1), _memory.Ports.Read(0x3C4, 1));
    }

    /// <summary>Changing a window of a mapped alias moves what shows: no observer is left behind.</summary>
    [Fact]
    public void Windows_that_move_leave_nothing_behind()
    {
        RedHatPciBridge bridge = Bridge(_root, 2, 1, 1);
        _root.WriteConfig(2 << 3, Command, 2, Open);
        for (uint i = 0; i < 1000; i++) _root.WriteConfig(2 << 3, MemoryWindow, 4, 0x10001 * (0xC000 + (i % 64) * 16));
        _root.Unplug(bridge);
        Assert.DoesNotContain(_memory.Root.Children, region => region.Name.StartsWith("pci-bridge"));
        Assert.DoesNotContain(_memory.PortRoot.Children, region => region.Name.StartsWith("pci-bridge"));
    }

    sealed class Card : PciDevice, IRegisterBank
    {
        public Card(byte pin) : base(new PciIdentity(0x1B36, 0x1234, 0xFF0000), "card")
        {
            Config.Define(PciConfig.InterruptPin, pin);
            Bar(0, MemoryRegion.Io("card", 4096, this, AccessSizes.Bytes), BarKind.Memory32);
            Bar(1, MemoryRegion.Io("card", 32, this, AccessSizes.Bytes), BarKind.Io);
            Bar(2, MemoryRegion.Io("card", 4096, this, AccessSizes.Bytes), BarKind.Prefetchable64);
        }

        public (ulong Offset, ulong Value) Written { get; private set; }
        public int Resets { get; private set; }
        public ulong Read(ulong offset, int size) => 0x5A;
        public void Write(ulong offset, int size, ulong value) => Written = (offset, value);
        protected override void ResetDevice() => Resets++;
        protected override void ExchangeDevice(StateStream state) { }
    }
}
