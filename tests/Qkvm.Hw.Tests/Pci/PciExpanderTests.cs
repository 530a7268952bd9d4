using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>Root buses beside the first.</summary>
public sealed class PciExpanderTests : IMsiTarget, IDisposable
{
    const int SecondaryBus = 0x18, Number = 0x80;

    readonly TestMemory _memory = new();
    readonly List<(int Input, bool Level)> _edges = [];
    readonly PciBus _root;

    public PciExpanderTests() => _root = new PciBus("pci.0", _memory.Root, _memory.PortRoot, _memory.Space, this,
        Piix3.RouteSlot, [.. Enumerable.Range(0, 4).Select<int, Action<bool>>(i => level => _edges.Add((i, level)))]);

    public void Dispose() => _memory.Dispose();

    void IMsiTarget.Send(ulong address, uint data) { }

    Expander Plug(bool bypasses = false, byte number = Number)
    {
        var expander = new Expander(_root, number, bypasses);
        _root.Plug(expander);
        expander.Reset();
        return expander;
    }

    static PciBus Slots(Expander expander)
    {
        var bridge = new RedHatPciBridge(expander.Root, "slots", 1);
        expander.Root.Plug(bridge);
        bridge.Reset();
        return bridge.Secondary;
    }

    [Fact]
    public void Its_buses_have_numbers_of_their_own()
    {
        Expander expander = Plug();
        PciBus slots = Slots(expander);
        Assert.Same(expander.Root, _root.Find(Number));
        Assert.Null(_root.Find(Number + 1));
        _root.Find(Number)!.WriteConfig(0, SecondaryBus, 4, (Number + 1) << 8 | (Number + 1) << 16 | Number);
        Assert.Same(slots, _root.Find(Number + 1));
        var card = new Card();
        slots.Plug(card, 3 << 3);
        Assert.Equal(Number << 8, card.RequesterId);               // the bridge asks for it
        Assert.Contains(card, _root.AllDevices);
    }

    /// <summary>As on the first root.</summary>
    [Theory]
    [InlineData(0)] [InlineData(6)]
    public void Interrupts_are_routed_by_the_slots_behind_it(int slot)
    {
        var card = new Card();
        Slots(Plug()).Plug(card, slot << 3);
        card.IntX.Set(true);
        card.IntX.Set(false);
        int input = Piix3.RouteSlot(0, slot % 4);
        Assert.Equal([(input, true), (input, false)], _edges);
    }

    [Fact]
    public void A_wire_is_shared_with_the_first_root()
    {
        Card near = new(), far = new();
        _root.Plug(near, 4 << 3);                                  // pin A of slot 4 and of slot 0 lead to one input
        Slots(Plug()).Plug(far, 0);
        near.IntX.Set(true);
        far.IntX.Set(true);
        near.IntX.Set(false);
        Assert.Single(_edges);
        far.IntX.Set(false);
        Assert.Equal(2, _edges.Count);
    }

    [Fact]
    public void Only_bridges_sit_on_it()
    {
        Expander expander = Plug();
        Assert.Contains("Only PCI/PCIe bridges can be plugged into pxb",
            Assert.Throws<ConfigurationException>(() => expander.Root.Plug(new Card())).Message);
        Assert.True(expander.Root.IsFull);                         // for those who name no bus
    }

    [Theory]
    [InlineData(false, true)] [InlineData(true, false)]
    public void What_is_behind_it_can_bypass_the_IOMMU(bool afterwards, bool bypasses)
    {
        Card near = new(), far = new();
        var iommu = new Iommu();
        if (!afterwards) _root.JoinAll(iommu);
        _root.Plug(near);
        Slots(Plug(bypasses)).Plug(far, 0);
        if (afterwards) _root.JoinAll(iommu);
        Assert.Contains(near, iommu.Known);
        Assert.Equal(!bypasses, iommu.Known.Contains(far));
    }

    sealed class Expander(PciBus parent, byte number, bool bypasses) : PciExpanderBridge(
        new PciIdentity(0x1B36, 9, 0x060000, HasInterruptPin: false), "pxb", parent, "roots", number, bypasses);

    sealed class Card() : PciDevice(new PciIdentity(0x1B36, 0x1234, 0xFF0000), "card")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }

    sealed class Iommu : IPciIommu, IDmaTranslation
    {
        public List<PciDevice> Known { get; } = [];

        public IDmaTranslation TranslationOf(PciDevice device)
        {
            Known.Add(device);
            return this;
        }

        public IMsiTarget? MessagesOf(PciDevice device) => null;

        public bool TryTranslate(ulong address, bool write, out ulong translated, out ulong length)
        {
            (translated, length) = (address, 1);
            return true;
        }
    }
}
