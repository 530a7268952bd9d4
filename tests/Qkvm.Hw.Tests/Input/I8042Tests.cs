using Qkvm.Core.Input;
using Qkvm.Core.Irq;
using Qkvm.Hw.Input;
using Qkvm.Hw.Isa;

namespace Qkvm.Hw.Tests.Input;

/// <summary>Against the IBM PS/2 Hardware Interface Technical Reference.</summary>
public class I8042Tests
{
    readonly InputRouter _input = new();
    readonly List<string> _log = [];
    readonly IrqLine _irq1, _irq12;
    readonly I8042 _controller;
    int _edges1, _edges12;

    public I8042Tests()
    {
        _irq1 = new IrqLine("irq1", level => _edges1 += level ? 1 : 0);
        _irq12 = new IrqLine("irq12", level => _edges12 += level ? 1 : 0);
        _controller = new I8042(_irq1, _irq12, open => _log.Add(open ? "A20 on" : "A20 off"), () => _log.Add("reset"),
            _input);
    }

    void Command(byte value) => _controller.Command.Write(0, 1, value);
    void Data(byte value) => _controller.Data.Write(0, 1, value);
    void Mouse(byte value) { Command(0xD4); Data(value); }
    void CommandByte(byte value) { Command(0x60); Data(value); }
    byte Status => (byte)_controller.Command.Read(0, 1);
    byte Read() => (byte)_controller.Data.Read(0, 1);

    /// <summary>All bytes waiting, those of the mouse in brackets.</summary>
    string Drain()
    {
        var bytes = new List<string>();
        while ((Status & 1) != 0)
        {
            bool auxiliary = (Status & 0x20) != 0;
            string text = Read().ToString("x2");
            bytes.Add(auxiliary ? $"[{text}]" : text);
        }
        return string.Join(' ', bytes);
    }

    [Fact]
    public void Keys_faster_than_the_guest_reads_wait_and_none_is_lost()
    {
        CommandByte(0x01);                                         // no translation: set 2, releases take two bytes
        for (int i = 0; i < 50; i++)
        {
            _input.Key(KeyCode.A, true);
            _input.Key(KeyCode.A, false);
        }
        Assert.Equal(string.Join(' ', Enumerable.Repeat("1c f0 1c", 50)), Drain());
        for (int i = 0; i < 100; i++) _input.Key(KeyCode.Up, true);
        Assert.All(Drain().Split(' ').Chunk(2), pair => Assert.Equal(["e0", "75"], pair));
        for (int i = 0; i < 5000; i++) _input.Key(KeyCode.A, true);
        // a bounded number; the release is the last all the same
        _input.Key(KeyCode.A, false);
        string all = Drain();
        Assert.EndsWith("1c f0 1c", all);
        Assert.InRange(all.Length, 3000, 3600);
    }

    /// <summary>IBM PS/2 Technical Reference, "Set/Reset Status Indicators (hex ED)".</summary>
    [Fact]
    public void The_router_knows_the_locks_before_and_after_the_guest_lights_them()
    {
        _input.Key(KeyCode.CapsLock, true);
        _input.Key(KeyCode.CapsLock, true);                        // held down: repeats
        _input.Key(KeyCode.CapsLock, false);
        _input.Key(KeyCode.NumLock, true);
        _input.Key(KeyCode.NumLock, false);
        Assert.Equal(KeyboardLocks.Caps | KeyboardLocks.Num, _input.Locks);
        Lights(4);                                                 // the guest has come as far as Caps Lock
        Assert.Equal(KeyboardLocks.Caps | KeyboardLocks.Num, _input.Locks);
        Lights(6);
        Assert.Equal(KeyboardLocks.Caps | KeyboardLocks.Num, _input.Locks);
        Lights(1);                                                 // of its own accord
        Assert.Equal(KeyboardLocks.Scroll, _input.Locks);

        void Lights(byte bits)
        {
            Data(0xED);
            Data(bits);
            Drain();
        }
    }

    [Theory]
    [InlineData(0xAA, "55")] [InlineData(0xAB, "00")] [InlineData(0xA9, "00")] [InlineData(0x20, "03")]
    [InlineData(0xC0, "80")]
    [InlineData(0xD0, "cf")] [InlineData(0xE0, "00")]
    public void Controller_commands_answer(byte command, string reply)
    {
        Command(command);
        Assert.Equal(reply, Drain());
    }

    [Theory]
    [InlineData(0xFE, "reset")] [InlineData(0xF0, "reset")] [InlineData(0xFF, "")] [InlineData(0xDD, "A20 off")]
    [InlineData(0xDF, "A20 on")]
    public void Pulses_reset_and_A20_commands_gate(byte command, string effect)
    {
        Command(command);
        Assert.Equal(effect, string.Join(' ', _log));
    }

    [Theory]
    [InlineData(0xDD, "A20 off")] [InlineData(0xDF, "A20 on")] [InlineData(0xDE, "A20 on reset")]
    public void The_output_port_holds_A20_and_reset(byte value, string effect)
    {
        Command(0xD1);
        Data(value);
        Assert.Equal(effect, string.Join(' ', _log));
    }

    [Theory]
    [InlineData("ed", "fa")] [InlineData("ed 02", "fa fa")] [InlineData("ee", "ee")] [InlineData("f2", "fa ab 83")]
    [InlineData("f3 20", "fa fa")]
    [InlineData("f4", "fa")] [InlineData("f5", "fa")] [InlineData("f6", "fa")] [InlineData("ff", "fa aa")]
    [InlineData("f0 00", "fa fa 02")]
    [InlineData("f0 01 f0 00", "fa fa fa fa 01")] [InlineData("f0 07", "fa fe")] [InlineData("01", "fe")]
    [InlineData("ed f4", "fa fa")]
    public void Keyboard_commands_answer(string sent, string replies)
    {
        foreach (string part in sent.Split(' ')) Data(Convert.ToByte(part, 16));
        Assert.Equal(replies, Drain());
    }

    [Fact]
    public void Resend_repeats_the_last_byte()
    {
        Data(0xEE);
        Drain();
        Data(0xFE);
        Assert.Equal("ee", Drain());
    }

    [Theory]
    [InlineData(KeyCode.A, "1e 9e", "1c f0 1c", "1c f0 1c")]
    [InlineData(KeyCode.F7, "41 c1", "83 f0 83", "37 f0 37")]
    [InlineData(KeyCode.Up, "e0 48 e0 c8", "e0 75 e0 f0 75", "63 f0 63")]
    [InlineData(KeyCode.Delete, "e0 53 e0 d3", "e0 71 e0 f0 71", "64 f0 64")]
    [InlineData(KeyCode.CtrlR, "e0 1d e0 9d", "e0 14 e0 f0 14", "58 f0 58")]
    [InlineData(KeyCode.Less, "56 d6", "61 f0 61", "13 f0 13")]
    [InlineData(KeyCode.Print, "e0 2a e0 37 e0 b7 e0 aa", "e0 12 e0 7c e0 f0 7c e0 f0 12", "57 f0 57")]
    [InlineData(KeyCode.Pause, "e1 1d 45 e1 9d c5", "e1 14 77 e1 f0 14 f0 77", "62 f0 62")]
    public void Keys_send_the_codes_of_each_set_and_the_controller_translates_set_2(KeyCode key, string set1,
        string set2, string set3)
    {
        Data(0xF0); Data(1);
        Drain();
        Assert.Equal(set1, Press(key));
        Data(0xF0); Data(2);
        Drain();
        Assert.Equal(set2, Press(key));
        CommandByte(0x43);
        Assert.Equal(set1, Press(key));
        CommandByte(0x03);
        Data(0xF0); Data(3);
        Drain();
        Assert.Equal(set3, Press(key));
    }

    string Press(KeyCode key)
    {
        _input.Key(key, true);
        _input.Key(key, false);
        return Drain();
    }

    [Fact]
    public void Every_key_below_the_prefix_survives_translation()
    {
        CommandByte(0x43);
        foreach (KeyCode key in Enum.GetValues<KeyCode>())
        {
            if ((ushort)key is 0 or > 0xFF) continue;
            Assert.Equal($"{(byte)key:x2} {(byte)key | 0x80:x2}", Press(key));
        }
    }

    [Fact]
    public void Each_byte_raises_IRQ_1_anew_and_reading_lowers_it()
    {
        _input.Key(KeyCode.Up, true);
        Assert.Equal((1, true), (_edges1, _irq1.Level));
        Read();
        Assert.Equal((2, true), (_edges1, _irq1.Level));
        Read();
        Assert.Equal((2, false), (_edges1, _irq1.Level));
        CommandByte(0x00);
        _input.Key(KeyCode.A, true);
        Assert.Equal(1, Status & 0x21);
        Assert.Equal(2, _edges1);
    }

    [Fact]
    public void A_disabled_keyboard_keeps_its_keys_until_enabled()
    {
        Command(0xAD);
        _input.Key(KeyCode.A, true);
        Assert.Equal(0, Status & 1);
        Command(0xAE);
        Assert.Equal("1c", Drain());
    }

    [Theory]
    [InlineData("ff", "[fa] [aa] [00]")] [InlineData("f2", "[fa] [00]")] [InlineData("e9", "[fa] [00] [02] [64]")]
    [InlineData("e8 03 e9", "[fa] [fa] [fa] [00] [03] [64]")]
    [InlineData("f4 e7 f0 e9", "[fa] [fa] [fa] [fa] [70] [02] [64]")]
    [InlineData("f3 c8 f3 64 f3 50 f2", "[fa] [fa] [fa] [fa] [fa] [fa] [fa] [03]")]
    [InlineData("f3 c8 f3 c8 f3 50 f2", "[fa] [fa] [fa] [fa] [fa] [fa] [fa] [04]")]
    [InlineData("ee 42 ec e6", "[fa] [42] [fa] [fa]")] [InlineData("e1", "[fe]")]
    [InlineData("eb", "[fa] [08] [00] [00]")]
    public void Mouse_commands_answer(string sent, string replies)
    {
        var all = new List<string>();
        foreach (string part in sent.Split(' '))
        {
            Mouse(Convert.ToByte(part, 16));
            all.Add(Drain());
        }
        Assert.Equal(replies, string.Join(' ', all.Where(a => a.Length > 0)));
        Assert.True(_edges12 > 0);
    }

    [Theory]
    [InlineData("", 3, 5, 0, MouseButtons.Left, "[29] [03] [fb]")]
    [InlineData("", -3, -5, 0, MouseButtons.Right, "[1a] [fd] [05]")]
    [InlineData("", 200, 0, 0, MouseButtons.None, "[08] [7f] [00] [08] [49] [00]")]
    [InlineData("f3 c8 f3 64 f3 50", 0, 0, 1, MouseButtons.None, "[08] [00] [00] [01]")]
    [InlineData("f3 c8 f3 64 f3 50", 0, 0, -1, MouseButtons.Middle, "[0c] [00] [00] [ff]")]
    [InlineData("f3 c8 f3 c8 f3 50", 0, 0, -1, MouseButtons.Side, "[08] [00] [00] [1f]")]
    public void Movements_become_packets(string knock, int x, int y, int wheel, MouseButtons buttons, string packets)
    {
        foreach (string part in knock.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            Mouse(Convert.ToByte(part, 16));
        Mouse(0xF4);
        Drain();
        _input.Pointer(x, y, wheel, buttons);
        Assert.Equal(packets, Drain());
    }

    [Fact]
    public void Movements_while_nobody_reads_add_up_and_arrive_later()
    {
        Mouse(0xF4);
        Drain();
        for (int i = 0; i < 50; i++) _input.Pointer(1, 0, 0, MouseButtons.None);
        string[] bytes = Drain().Split(' ');
        Assert.Equal(50, bytes.Chunk(3).Sum(p => Convert.ToInt32(p[1].Trim('[', ']'), 16)));
    }

    [Fact]
    public void Port_92_gates_A20_and_resets_on_a_rising_bit()
    {
        var port = new Port92(open => _log.Add(open ? "A20 on" : "A20 off"), () => _log.Add("reset"));
        foreach (byte value in (byte[])[2, 0, 1, 1]) port.Write(0, 1, value);
        Assert.Equal("A20 on,A20 off,A20 off,reset,A20 off", string.Join(',', _log));
    }
}
