using System.Text;
using Qkvm.Core.Char;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>usb-serial as drivers of FTDI's chips see it.</summary>
public sealed class UsbSerialTests
{
    const byte Vendor = 0x40, ToHost = 0x80, Reset = 0, GetStatus = 5, SetLatency = 9, GetLatency = 10, Break = 0x10;

    readonly FakeBoard _board = new(new DeviceBench(new FakeClock()));
    readonly UsbBench _bench = new();
    readonly UsbSerial _serial;

    public UsbSerialTests()
    {
        _serial = Make();
        _bench.Port.Attach(_serial);
        Assert.True(_bench.Tell(0, 9, 1));
    }

    FakeChar Other => _board.Chardev;

    UsbSerial Make() => (UsbSerial)UsbSerial.Model.Create(FakeBoard.Defaults(UsbSerial.Model, ("chardev", "c")),
        _board.Site);

    void Come(string text) => _serial.Receive(Encoding.ASCII.GetBytes(text));

    [Fact]
    public void Descriptors_are_those_of_QEMU()
    {
        Assert.Equal("120100020000000803040160000401020401", Convert.ToHexString(_bench.Descriptor(1)!));
        Assert.Equal("09022000010100A03209040000" + "02FFFFFF00" + "07058102400000" + "07050202400000",
            Convert.ToHexString(_bench.Descriptor(2)!));
    }

    [Fact]
    public void Bytes_for_the_host_come_behind_the_status_of_modem_and_line()
    {
        Assert.Null(_bench.Receive(1));
        Come("abc");
        Assert.Equal([0x81], _bench.Wakes);
        Assert.Equal([0xB1, 0, (byte)'a', (byte)'b', (byte)'c'], _bench.Receive(1));
        Assert.Null(_bench.Receive(1));
        Come(new string('x', 100));
        byte[] both = _bench.Receive(1, 128)!;                     // two packets: 62 bytes and 38
        Assert.Equal((104, 0xB1, 0xB1), (both.Length, both[0], both[64]));
        Assert.Equal(100, both.Count(b => b == 'x'));
    }

    [Fact]
    public void A_break_is_told_by_itself()
    {
        Come("a");
        _serial.Event(CharEvent.Break);
        Assert.Equal([0xB1, Break], _bench.Receive(1));
        Assert.Equal([0xB1, 0, (byte)'a'], _bench.Receive(1));
    }

    [Fact]
    public void Bytes_for_the_other_end_wait_until_it_takes_them()
    {
        Other.Space = 4;
        Assert.Equal(UsbStatus.Pending, _bench.Send(UsbToken.Out, 2, "abcdef"u8.ToArray()));
        Assert.Equal("abcd", Other.Text);
        Other.Space = 1;
        _serial.Writable();
        Assert.Empty(_bench.Completed);
        Other.Space = 100;
        _serial.Writable();
        Assert.Equal([UsbStatus.Success], _bench.Completed);
        Assert.Equal("abcdef", Other.Text);
    }

    [Fact]
    public void A_transfer_that_is_taken_back_goes_on_no_more()
    {
        Other.Space = 0;
        Assert.Equal(UsbStatus.Pending, _bench.Send(UsbToken.Out, 2, "abc"u8.ToArray()));
        _bench.Packet.Cancel();
        Other.Space = 100;
        _serial.Writable();
        Assert.Equal("", Other.Text);
    }

    [Fact]
    public void No_more_comes_than_the_host_has_room_for()
    {
        int room = _serial.Room;
        Come(new string('x', room));
        Assert.Equal(0, _serial.Room);
        int accepted = Other.AcceptCalls;
        Assert.True(_bench.Tell(Vendor, Reset, 1));                // purge what was received
        Assert.Equal((room, accepted + 1), (_serial.Room, Other.AcceptCalls));
        Assert.Null(_bench.Receive(1));
    }

    [Fact]
    public void Requests_are_answered()
    {
        Assert.Equal([0xB1, 0x60], _bench.Ask(ToHost | Vendor, GetStatus, length: 2));
        Assert.Equal([16], _bench.Ask(ToHost | Vendor, GetLatency, length: 1));
        Assert.True(_bench.Tell(Vendor, SetLatency, 1));
        Assert.Equal([1], _bench.Ask(ToHost | Vendor, GetLatency, length: 1));
        Assert.Null(_bench.Ask(ToHost | Vendor, 0x90, length: 2)); // an EEPROM
        Assert.False(_bench.Tell(Vendor, Reset, 3));
    }

    [Fact]
    public void It_is_pulled_while_nobody_is_at_the_other_end()
    {
        using var board = new UsbBoard(Uhci.Piix3);
        board.Board.Chardev.IsOpen = false;
        var serial = (UsbSerial)board.Plug(UsbSerial.Model, ("chardev", "c"));
        Assert.Equal((null, 0), (serial.Port, serial.Room));
        board.Board.Chardev.IsOpen = true;
        serial.Event(CharEvent.Opened);
        Assert.Same(board.Bus.Ports[0], serial.Port);
        board.Board.Chardev.IsOpen = false;
        serial.Event(CharEvent.Closed);
        Assert.Null(serial.Port);
        board.Plug(UsbSerial.Model, ("chardev", "d"), ("always-plugged", "on"));
        Assert.NotNull(board.Bus.Ports[1].Device);                 // the first has its place still
    }

    [Fact]
    public void State_is_kept()
    {
        Come("abc");
        Assert.True(_bench.Tell(Vendor, SetLatency, 7));
        var bench = new UsbBench();
        UsbSerial other = Make();
        bench.Port.Attach(other);
        StateNode.Save(_serial.Exchange).Load(other.Exchange);
        Assert.Equal([0xB1, 0, (byte)'a', (byte)'b', (byte)'c'], bench.Receive(1));
        Assert.Equal([7], bench.Ask(ToHost | Vendor, GetLatency, length: 1));
    }
}
