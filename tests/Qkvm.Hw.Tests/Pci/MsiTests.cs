using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Pci;

public sealed class MsiTests : IDisposable
{
    const int At = 0x80, Control = At + 2, Address = At + 4;
    const int Enabled = 1;

    readonly PciBench _bench = new();

    public void Dispose() => _bench.Dispose();

    uint Read(Card card, int offset, int size) => _bench.Bus.ReadConfig(card.DevFn, offset, size);
    void Write(Card card, int offset, int size, uint value) =>
        _bench.Bus.WriteConfig(card.DevFn, offset, size, value);

    Card Plug(int vectors, bool is64Bit = true, bool isMaskable = false) =>
        _bench.Plug(new Card(vectors, is64Bit, isMaskable), 3);

    [Theory]
    [InlineData(1, true, false, 0x0080, 0x01)]
    [InlineData(8, true, true, 0x0186, 0x31)]
    [InlineData(32, false, false, 0x000A, 0x71)]
    [InlineData(2, false, true, 0x0102, 0x11)]
    public void The_capability_says_what_it_can(int vectors, bool is64Bit, bool isMaskable, uint control,
        uint writable)
    {
        Card card = Plug(vectors, is64Bit, isMaskable);
        Assert.Equal((uint)At, Read(card, PciConfig.CapabilityPointer, 1));
        Assert.Equal(control << 16 | 0x0005u, Read(card, At, 4));
        Write(card, At, 4, uint.MaxValue);
        Assert.Equal((control | writable) << 16 | 0x0005u, Read(card, At, 4));
        Write(card, Address, 4, uint.MaxValue);
        Assert.Equal(~3u, Read(card, Address, 4));
        int data = Address + (is64Bit ? 8 : 4);
        Write(card, data, 4, uint.MaxValue);
        Assert.Equal(0xFFFFu, Read(card, data, 4));
        Write(card, data + 4, 4, uint.MaxValue);
        Assert.Equal(isMaskable ? uint.MaxValue >> (32 - vectors) : 0, Read(card, data + 4, 4));
        Write(card, data + 8, 4, uint.MaxValue);
        Assert.Equal(0u, Read(card, data + 8, 4));                 // pending bits are read-only
    }

    [Fact]
    public void Messages_go_where_the_guest_says_once_it_says_so()
    {
        Card card = Plug(1);
        Write(card, Address, 4, 0xFEE0_1004);
        Write(card, Address + 4, 4, 0x12);
        Write(card, Address + 8, 2, 0x4057);
        card.Msi!.Notify(0);
        Assert.Empty(_bench.Messages);
        Write(card, Control, 2, Enabled);
        card.Msi.Notify(0);
        Assert.Equal([(0x12_FEE0_1004UL, 0x4057u)], _bench.Messages);
    }

    [Theory]
    [InlineData(0, 0x40, 0x40)]                                    // one message for all
    [InlineData(2, 0x41, 0x42)]                                    // four: 5 is told as 1
    [InlineData(7, 0x45, 0x46)]                                    // reserved: no more than there are
    public void Vectors_share_the_messages_that_they_are_given(uint multiple, uint five, uint six)
    {
        Card card = Plug(8);
        Write(card, Address, 4, 0xFEE0_0000);
        Write(card, Address + 8, 2, 0x40);
        Write(card, Control, 2, Enabled | multiple << 4);
        card.Msi!.Notify(5);
        card.Msi.Notify(6);
        Assert.Equal([five, six], _bench.Messages.Select(m => m.Data));
    }

    [Fact]
    public void A_masked_message_is_pending_until_it_is_unmasked()
    {
        const int Data = Address + 4, Mask = Data + 4, Pending = Mask + 4;
        Card card = Plug(4, is64Bit: false, isMaskable: true);
        Write(card, Address, 4, 0xFEE0_0000);
        Write(card, Data, 2, 0x80);
        Write(card, Mask, 4, 0b0110);
        Write(card, Control, 2, Enabled | 2 << 4);
        card.Msi!.Notify(1);
        card.Msi.Notify(1);
        card.Msi.Notify(2);
        card.Msi.Notify(3);
        Assert.Equal([0x83u], _bench.Messages.Select(m => m.Data));
        Assert.Equal(0b0110u, Read(card, Pending, 4));

        Card loaded = new(4, false, true);
        _bench.Bus.Plug(loaded, 4 << 3);
        StateNode.Save(card.Exchange).Load(loaded.Exchange);
        Assert.Single(_bench.Messages);
        Write(loaded, Mask, 4, 0b0100);
        Assert.Equal([0x83u, 0x81u], _bench.Messages.Select(m => m.Data));
        Assert.Equal(0b0100u, Read(loaded, Pending, 4));
        loaded.Reset();
        Assert.Equal(0u, Read(loaded, Pending, 4));
        Assert.False(loaded.Msi!.IsEnabled);
    }

    /// <summary>PCI Local Bus 3.0, section 6.8.2: with messages the function makes no use of its pin.</summary>
    [Fact]
    public void A_message_takes_the_place_of_the_pin_while_enabled()
    {
        Card card = Plug(1);
        Write(card, Address, 4, 0xFEE0_0000);
        card.Raise(true);
        Assert.True(_bench.Inta);
        Assert.NotEqual(0u, Read(card, PciConfig.Status, 2) & PciConfig.StatusInterrupt);
        Assert.Empty(_bench.Messages);

        Write(card, Control, 2, Enabled);
        Assert.False(_bench.Inta);
        Assert.Equal(0u, Read(card, PciConfig.Status, 2) & PciConfig.StatusInterrupt);
        card.Raise(false);
        card.Raise(true);
        card.Raise(true);
        Assert.Single(_bench.Messages);                            // one as it rises

        Write(card, Control, 2, 0);
        Assert.True(_bench.Inta);
    }

    sealed class Card : PciDevice
    {
        public Card(int vectors, bool is64Bit, bool isMaskable) : base(new PciIdentity(0x1234, 1, 0xFF0000), "card") =>
            Msi = new Msi(this, vectors, At, is64Bit, isMaskable);

        public void Raise(bool level) => Interrupt(level);

        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }
}
