using Qkvm.Core.Irq;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.Tests.Intc;

/// <summary>Against the 8259A data sheet.</summary>
public class I8259Tests
{
    readonly I8259Pair _pic;
    readonly IrqLine _intr = IrqLine.Unconnected("intr");

    public I8259Tests()
    {
        _pic = new I8259Pair(_intr);
        Initialize(icw4: 0x01);
    }

    void Initialize(byte icw4)
    {
        Master(0, 0x11); Master(1, 0x20); Master(1, 0x04); Master(1, icw4);
        Slave(0, 0x11); Slave(1, 0x28); Slave(1, 0x02); Slave(1, 0x01);
    }

    void Master(ulong port, byte value) => _pic.Master.Write(port, 1, value);
    void Slave(ulong port, byte value) => _pic.Slave.Write(port, 1, value);

    void Pulse(int irq)
    {
        _pic.SetIrq(irq, true);
        _pic.SetIrq(irq, false);
    }

    [Theory]
    [InlineData(0, 0x20)] [InlineData(1, 0x21)] [InlineData(7, 0x27)] [InlineData(8, 0x28)] [InlineData(12, 0x2C)]
    [InlineData(15, 0x2F)]
    public void An_edge_raises_INTR_and_the_acknowledge_gives_base_plus_input(int irq, int vector)
    {
        Pulse(irq);
        Assert.True(_intr.Level);
        Assert.Equal(vector, _pic.Acknowledge());
        Assert.False(_intr.Level);
        Assert.Equal(1 << (irq & 7), irq < 8 ? _pic.Master.Isr : _pic.Slave.Isr);
    }

    [Fact]
    public void Lower_inputs_have_priority_and_a_served_one_holds_back_its_inferiors()
    {
        Pulse(5);
        Pulse(3);
        Assert.Equal(0x23, _pic.Acknowledge());
        Assert.False(_intr.Level);
        Pulse(1);
        Assert.True(_intr.Level);
        Assert.Equal(0x21, _pic.Acknowledge());
        Master(0, 0x20);                                           // ends 1
        Assert.False(_intr.Level);
        Master(0, 0x20);                                           // ends 3
        Assert.Equal(0x25, _pic.Acknowledge());
    }

    [Theory]
    [InlineData(true)] [InlineData(false)]
    public void A_slave_request_beside_one_in_service_is_not_lost(bool higherFirst)
    {
        Pulse(higherFirst ? 9 : 14);
        Assert.Equal(higherFirst ? 0x29 : 0x2E, _pic.Acknowledge());
        Pulse(higherFirst ? 14 : 9);
        Slave(0, 0x20);
        Master(0, 0x20);
        Assert.True(_intr.Level);
        Assert.Equal(higherFirst ? 0x2E : 0x29, _pic.Acknowledge());
    }

    [Fact]
    public void A_request_that_went_away_is_answered_with_IRQ_7_or_15()
    {
        _pic.EdgeLevelControl.Write(0, 1, 0x20);
        _pic.EdgeLevelControl.Write(1, 1, 0x08);
        Assert.Equal(0x27, _pic.Acknowledge());
        Assert.Equal(0, _pic.Master.Isr);
        _pic.SetIrq(11, true);
        _pic.SetIrq(11, false);
        Assert.Equal(0x2F, _pic.Acknowledge());                    // the cascade input stayed latched
        Assert.Equal(0x04, _pic.Master.Isr);
        Assert.Equal(0, _pic.Slave.Isr);
    }

    [Fact]
    public void A_level_input_requests_until_it_falls()
    {
        _pic.EdgeLevelControl.Write(0, 1, 0x20);
        _pic.SetIrq(5, true);
        Assert.Equal(0x25, _pic.Acknowledge());
        Master(0, 0x65);
        Assert.Equal(0x25, _pic.Acknowledge());
        _pic.SetIrq(5, false);
        Master(0, 0x65);
        Assert.False(_intr.Level);
    }

    [Theory]
    [InlineData(0, 0xFF, 0xF8)] [InlineData(1, 0xFF, 0xDE)]
    public void ELCR_keeps_timer_keyboard_cascade_clock_and_FPU_edge_triggered(ulong port, byte written, byte read)
    {
        _pic.EdgeLevelControl.Write(port, 1, written);
        Assert.Equal(read, _pic.EdgeLevelControl.Read(port, 1));
    }

    [Fact]
    public void Masked_requests_wait_in_IRR()
    {
        Master(1, 0x08);
        Pulse(3);
        Assert.False(_intr.Level);
        Assert.Equal(0x08UL, _pic.Master.Read(0, 1));
        Master(1, 0);
        Assert.True(_intr.Level);
        Assert.Equal(0x23, _pic.Acknowledge());
        Master(0, 0x0B);
        Assert.Equal(0x08UL, _pic.Master.Read(0, 1));              // ISR
    }

    [Fact]
    public void Special_mask_mode_lets_inferiors_of_a_masked_one_in_service_through()
    {
        Pulse(3);
        _pic.Acknowledge();
        Pulse(5);
        Assert.False(_intr.Level);
        Master(1, 0x08);
        Assert.False(_intr.Level);
        Master(0, 0x68);
        Assert.True(_intr.Level);
        Assert.Equal(0x25, _pic.Acknowledge());
        Master(0, 0x20);                                           // does not see the masked 3
        Assert.Equal(0x08, _pic.Master.Isr);
    }

    [Theory]
    [InlineData(0xA0, 4)] [InlineData(0xE3, 4)] [InlineData(0xC3, 4)] [InlineData(0xC0, 1)]
    public void Rotation_puts_the_named_or_ended_input_last(byte command, int first)
    {
        Pulse(3);
        _pic.Acknowledge();
        Master(0, command);
        Master(0, 0x63);
        Pulse(1);
        Pulse(4);
        Assert.Equal(0x20 + first, _pic.Acknowledge());
    }

    [Fact]
    public void Automatic_end_of_interrupt_sets_no_ISR_bit()
    {
        Initialize(icw4: 0x03);
        Pulse(4);
        Assert.Equal(0x24, _pic.Acknowledge());
        Assert.Equal(0, _pic.Master.Isr);
    }

    [Fact]
    public void Poll_acknowledges_the_request()
    {
        Master(0, 0x0C);
        Assert.Equal(0UL, _pic.Master.Read(0, 1));
        Pulse(6);
        Master(0, 0x0C);
        Assert.Equal(0x86UL, _pic.Master.Read(0, 1));
        Assert.Equal(0x40, _pic.Master.Isr);
    }

    [Fact]
    public void Special_fully_nested_mode_serves_a_better_slave_request_inside_another()
    {
        Pulse(12);
        _pic.Acknowledge();
        Pulse(8);
        Assert.False(_intr.Level);
        Initialize(icw4: 0x11);
        Pulse(12);
        Assert.Equal(0x2C, _pic.Acknowledge());
        Pulse(8);
        Assert.True(_intr.Level);
        Assert.Equal(0x28, _pic.Acknowledge());
    }
}
