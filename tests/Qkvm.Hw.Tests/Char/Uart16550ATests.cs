using Qkvm.Core.Char;
using Qkvm.Core.Irq;
using Qkvm.Hw.Char;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Char;

/// <summary>Against the PC16550D data sheet.</summary>
public class Uart16550ATests
{
    const ulong Data = 0, Ier = 1, Iir = 2, Fcr = 2, Lcr = 3, Mcr = 4, Lsr = 5, Msr = 6, Scr = 7;

    readonly FakeClock _clock = new();
    readonly FakeChar _char = new();
    readonly Uart16550A _uart;
    readonly IrqLine _irq;
    int _edges;

    public Uart16550ATests()
    {
        _irq = new IrqLine("irq", level => _edges += level ? 1 : 0);
        _uart = new Uart16550A("serial0", _clock, _irq, _char);
    }

    void Write(ulong register, byte value) => _uart.Write(register, 1, value);
    byte Read(ulong register) => (byte)_uart.Read(register, 1);

    [Theory]
    [InlineData(Ier, 0x00)] [InlineData(Iir, 0x01)] [InlineData(Lcr, 0x00)] [InlineData(Mcr, 0x00)]
    [InlineData(Lsr, 0x60)]
    [InlineData(Msr, 0xB0)] [InlineData(Scr, 0x00)]
    public void Registers_start_with_the_reset_values(ulong register, byte value) =>
        Assert.Equal(value, Read(register));

    [Theory]
    [InlineData(Ier, 0xFF, 0x0F)] [InlineData(Lcr, 0x7F, 0x7F)] [InlineData(Mcr, 0xFF, 0x1F)]
    [InlineData(Scr, 0xA5, 0xA5)] [InlineData(Lsr, 0, 0x60)]
    public void Registers_keep_their_writable_bits(ulong register, byte written, byte read)
    {
        Write(register, written);
        Assert.Equal(read, Read(register));
    }

    [Fact]
    public void The_divisor_latch_shows_while_DLAB_is_set()
    {
        Write(Lcr, 0x83);
        Write(0, 0x34);
        Write(1, 0x12);
        Assert.Equal((0x34, 0x12), (Read(0), Read(1)));
        Write(Lcr, 0x03);
        Assert.Equal(0, Read(Ier));
        Assert.Empty(_char.Output);
    }

    [Fact]
    public void Each_character_sent_raises_the_transmitter_interrupt_anew()
    {
        Write(Ier, 2);
        Assert.Equal(1, _edges);
        Assert.Equal(0x02, Read(Iir));
        Assert.False(_irq.Level);
        Write(Data, (byte)'h');
        Write(Data, (byte)'i');
        Assert.Equal("hi", _char.Text);
        Assert.Equal(3, _edges);
        Assert.Equal(0x02, Read(Iir));
        Assert.Equal(0x01, Read(Iir));
    }

    [Fact]
    public void A_backend_without_room_holds_the_transmitter()
    {
        _char.Space = 1;
        Write(Fcr, 1);
        foreach (char c in "abc") Write(Data, (byte)c);
        Assert.Equal("a", _char.Text);
        Assert.Equal(0, Read(Lsr) & 0x60);
        _char.Space = 100;
        _uart.Writable();
        Assert.Equal("abc", _char.Text);
        Assert.Equal(0x60, Read(Lsr) & 0x60);
    }

    [Theory]
    [InlineData(0x01, 1)] [InlineData(0x41, 4)] [InlineData(0x81, 8)] [InlineData(0xC1, 14)]
    public void The_receiver_interrupts_at_its_trigger_level(byte fcr, int level)
    {
        Write(Fcr, fcr);
        Write(Ier, 1);
        for (int i = 1; i <= level; i++)
        {
            Assert.False(_irq.Level);
            _uart.Receive([(byte)i]);
        }
        Assert.Equal(0xC4, Read(Iir));
        Assert.Equal(1, Read(Data));
        Assert.False(_irq.Level);
    }

    [Fact]
    public void Characters_below_the_trigger_level_time_out_after_four_character_times()
    {
        Write(Lcr, 0x83);
        Write(0, 1);
        Write(1, 0);
        Write(Lcr, 0x03);
        Write(Fcr, 0xC1);
        Write(Ier, 1);
        _uart.Receive("xy"u8);
        long fourCharacters = 4 * 10 * 1_000_000_000L / 115_200;
        _clock.Advance(fourCharacters - 1);
        Assert.False(_irq.Level);
        _clock.Advance(1);
        Assert.Equal(0xCC, Read(Iir));
        Assert.Equal((byte)'x', Read(Data));
        Assert.False(_irq.Level);
        _clock.Advance(fourCharacters);
        Assert.Equal(0xCC, Read(Iir));
        Assert.Equal((byte)'y', Read(Data));
        _clock.Advance(fourCharacters);
        Assert.False(_irq.Level);
        Assert.Equal(0x60, Read(Lsr));
    }

    [Fact]
    public void Room_is_one_character_without_FIFOs_and_sixteen_with()
    {
        Assert.Equal(1, _uart.Room);
        _uart.Receive("a"u8);
        Assert.Equal(0, _uart.Room);
        int before = _char.AcceptCalls;
        Assert.Equal((byte)'a', Read(Data));
        Assert.Equal(before + 1, _char.AcceptCalls);
        Write(Fcr, 1);
        Assert.Equal(16, _uart.Room);
    }

    [Theory]
    [InlineData(0x00, 2, 'b')] [InlineData(0x01, 17, 'a')]
    public void Overrun_shows_in_LSR_until_read(byte fcr, int received, char first)
    {
        Write(Fcr, fcr);
        Write(Ier, 4);
        for (int i = 0; i < received; i++) _uart.Receive([(byte)('a' + i)]);
        Assert.Equal(0x06, Read(Iir) & 0x0F);
        Assert.Equal(0x63, Read(Lsr));
        Assert.Equal(0x61, Read(Lsr));
        Assert.Equal((byte)first, Read(Data));
    }

    [Fact]
    public void A_break_is_a_zero_with_the_break_bit()
    {
        Write(Ier, 4);
        _uart.Event(CharEvent.Break);
        Assert.Equal(0x06, Read(Iir));
        Assert.Equal(0x71, Read(Lsr));
        Assert.Equal(0, Read(Data));
        Assert.Equal(0x60, Read(Lsr));
    }

    [Theory]
    [InlineData(0x01, 0x20)] [InlineData(0x02, 0x10)] [InlineData(0x04, 0x40)] [InlineData(0x08, 0x80)]
    [InlineData(0x0A, 0x90)]
    public void Loop_mode_shows_the_outputs_as_inputs(byte mcr, byte msr)
    {
        Write(Mcr, (byte)(0x10 | mcr));
        Assert.Equal(msr, Read(Msr) & 0xF0);
    }

    [Fact]
    public void Loop_mode_returns_characters_and_modem_changes_interrupt()
    {
        Write(Mcr, 0x10);
        Read(Msr);
        Write(Data, 0x5A);
        Assert.Empty(_char.Output);
        Assert.Equal(0x5A, Read(Data));
        Write(Ier, 8);
        Write(Mcr, 0x16);
        Assert.Equal(0x00, Read(Iir));
        Assert.Equal(0x51, Read(Msr));
        Write(Mcr, 0x12);
        Assert.Equal(0x14, Read(Msr));                             // the trailing edge of RI
        Assert.Equal(0x01, Read(Iir));
    }

    [Fact]
    public void Clearing_the_FIFOs_empties_them()
    {
        Write(Fcr, 1);
        _uart.Receive("abc"u8);
        Write(Fcr, 3);
        Assert.Equal(0x60, Read(Lsr));
        Assert.Equal(0xC1, Read(Iir));
    }

    [Fact]
    public void Without_a_backend_output_vanishes()
    {
        var uart = new Uart16550A("serial1", _clock, IrqLine.Unconnected("irq"), null);
        uart.Write(Data, 1, 1);
        Assert.Equal(0x60UL, uart.Read(Lsr, 1));
    }
}
