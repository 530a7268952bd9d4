using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>usb-kbd, usb-mouse and usb-tablet as HID 1.11 and QEMU 7.2 have them.</summary>
public class HidTests
{
    const byte InEndpoint = 0x81;

    readonly FakeClock _clock = new();
    readonly FakeBoard _board;
    readonly UsbBench _bench = new();

    public HidTests() => _board = new FakeBoard(new DeviceBench(_clock));

    T Make<T>(DeviceModel model, params (string, string)[] given) where T : UsbDevice
    {
        var device = (T)model.Create(FakeBoard.Defaults(model, given), _board.Site);
        _bench.Port.Attach(device);
        Assert.True(_bench.Tell(0, 9, 1));
        return device;
    }

    string Report(int room = 8) => _bench.Receive(1, room) is { } bytes ? Convert.ToHexString(bytes) : "NAK";

    [Theory]
    [InlineData("usb-tablet", "120100020000000827060100000001030A01",
        "09022200010107A032090400000103000000092101000001224A000705810308000A",
        "05010902A1010901A10005091901290315002501950375018102950175058101050109300931150026FF7F350046FF7F"
        + "751095028102050109381581257F35004500750895018106C0C0")]
    [InlineData("usb-mouse", "120100020000000827060100000001020901",
        "09022200010106A0320904000001030102000921010000012234000705810304000A",
        "05010902A1010901A1000509190129051500250195057501810295017503810105010930093109381581257F750895038106C0C0")]
    [InlineData("usb-kbd", "120100020000000827060100000001040B01",
        "09022200010108A032090400000103010100092111010001223F000705810308000A",
        "05010906A10175019508050719E029E715002501810295017508810195057501050819012905910295017503910195067508150025FF05"
        + "07190029FF8100C0")]
    public void Descriptors_are_those_of_QEMU(string name, string device, string configuration, string report)
    {
        DeviceModel model = new[] { UsbPointer.Tablet, UsbPointer.Mouse, UsbKeyboard.Model }.First(m => m.Name == name);
        Make<UsbDevice>(model);
        Assert.Equal(device, Convert.ToHexString(_bench.Descriptor(1)!));
        Assert.Equal(configuration, Convert.ToHexString(_bench.Descriptor(2)!));
        Assert.Equal(report, Convert.ToHexString(_bench.Descriptor(0x22, recipient: 1)!));
        Assert.Equal("0A060002000000400100", Convert.ToHexString(_bench.Descriptor(6)!));
        Assert.Equal("050F0C000107100202000000", Convert.ToHexString(_bench.Descriptor(15)!));
        Assert.Equal("12034D005300460054003100300030005100", Convert.ToHexString(_bench.Descriptor(3, 0xEE)!));
        Assert.Equal("QEMU", Encoding.Unicode.GetString(_bench.Descriptor(3, 1)!.AsSpan(2)));
    }

    [Fact]
    public void Windows_learns_that_it_may_suspend_the_device()
    {
        Make<UsbKeyboard>(UsbKeyboard.Model);
        Assert.Equal("2800000000010400010000000000000000010000" + new string('0', 40),
            Convert.ToHexString(_bench.Ask(0xC0, 0x51, 0, 4, 200)!));
        byte[] properties = _bench.Ask(0xC1, 0x51, 0, 5, 200)!;
        Assert.Equal("4C0000000001050001004200000004000000" + "3000" + "53006500",
            Convert.ToHexString(properties[..24]));
        Assert.Equal("0400000001000000", Convert.ToHexString(properties, 68, 8));
        Assert.Equal(76, properties.Length);
        Make<UsbKeyboard>(UsbKeyboard.Model, ("msos-desc", "off"));
        Assert.Null(_bench.Ask(0xC0, 0x51, 0, 4, 40));
    }

    [Fact]
    public void Keys_come_one_change_a_report_and_seven_are_too_many()
    {
        var keyboard = Make<UsbKeyboard>(UsbKeyboard.Model);
        Assert.Equal("NAK", Report());
        keyboard.Key(KeyCode.Shift, true);
        keyboard.Key(KeyCode.A, true);
        keyboard.Key(KeyCode.A, false);
        Assert.Equal([InEndpoint, InEndpoint, InEndpoint], _bench.Wakes);
        Assert.Equal("0200000000000000", Report());
        Assert.Equal("0200040000000000", Report());
        Assert.Equal("0200000000000000", Report());
        Assert.Equal("NAK", Report());
        KeyCode[] many = [KeyCode.B, KeyCode.C, KeyCode.D, KeyCode.E, KeyCode.F, KeyCode.G, KeyCode.H];
        foreach (KeyCode key in many) keyboard.Key(key, true);
        for (int i = 0; i < 5; i++) Report();
        Assert.Equal("020005060708090A", Report());
        Assert.Equal("0200010101010101", Report());
        keyboard.Key(KeyCode.B, false);
        Assert.Equal("02000B060708090A", Report());
    }

    [Fact]
    public void A_keyboard_repeats_its_report_where_the_host_wants_that()
    {
        Make<UsbKeyboard>(UsbKeyboard.Model);
        Assert.True(_bench.Tell(0x21, 10, 25 << 8));               // 100 ms
        Assert.Equal([25], _bench.Ask(0xA1, 2)!);
        Assert.Equal("NAK", Report());
        _clock.Advance(99_000_000);
        Assert.Equal("NAK", Report());
        _clock.Advance(1_000_000);
        Assert.Equal([InEndpoint], _bench.Wakes);
        Assert.Equal("0000000000000000", Report());
        Assert.Equal("NAK", Report());
        Assert.True(_bench.Tell(0x21, 10, 0));
        _clock.Advance(1_000_000_000);
        Assert.Equal("NAK", Report());
    }

    [Fact]
    public void Lights_and_protocols_are_as_the_host_sets_them()
    {
        var keyboard = Make<UsbKeyboard>(UsbKeyboard.Model);
        Assert.True(_bench.Tell(0x21, 9, 0x200, 0, [3]));
        Assert.Equal(KeyboardLocks.Num | KeyboardLocks.Caps, keyboard.Lights);
        Assert.True(_bench.Tell(0x21, 11, 0));
        Assert.Equal([0], _bench.Ask(0xA1, 3)!);
        Assert.False(_bench.Tell(0x21, 11, 2));
        Assert.Equal("0000000000000000", Convert.ToHexString(_bench.Ask(0xA1, 1, 0x100)!));
    }

    [Fact]
    public void A_mouse_splits_what_is_too_far_and_keeps_clicks_apart()
    {
        var mouse = Make<UsbPointer>(UsbPointer.Mouse);
        mouse.Pointer(200, -300, 0, MouseButtons.None);
        mouse.Pointer(0, 0, -1, MouseButtons.Left);
        mouse.Pointer(0, 0, 0, MouseButtons.None);
        Assert.Equal("007F8100", Report());
        Assert.Equal("00498100", Report());
        Assert.Equal("0000D200", Report());
        Assert.Equal("01000001", Report());                        // the wheel goes up
        Assert.Equal("00000000", Report());
        Assert.Equal("NAK", Report());
    }

    [Fact]
    public void A_tablet_reports_the_last_place_and_every_click()
    {
        var tablet = Make<UsbPointer>(UsbPointer.Tablet);
        tablet.Pointer(5, 5, 0, MouseButtons.None);
        tablet.Pointer(0x1234, 0x7FFF, 1, MouseButtons.None);
        tablet.Pointer(0x1234, 0x7FFF, 0, MouseButtons.Right);
        Assert.Equal("003412FF7FFF", Report());
        Assert.Equal("023412FF7F00", Report());
        Assert.Equal("NAK", Report());
        Assert.Equal("023412FF7F00", Convert.ToHexString(_bench.Ask(0xA1, 1, 0x100)!));
    }

    [Fact]
    public void A_flood_of_input_needs_no_more_room_and_loses_no_last_state()
    {
        var tablet = Make<UsbPointer>(UsbPointer.Tablet);
        for (int i = 0; i < 10_000; i++)
            tablet.Pointer(i, i, 1, i % 2 == 0 ? MouseButtons.Left : MouseButtons.None);
        string last = "";
        for (int i = 0; i < 2000 && Report() is var report && report != "NAK"; i++) last = report;
        Assert.StartsWith("000F270F27", last);
    }

    [Fact]
    public void The_router_prefers_a_device_that_the_guest_listens_to()
    {
        InputRouter router = _board.Input;
        var old = new OldMouse();
        router.Add(old);
        UsbPointer tablet = Make<UsbPointer>(UsbPointer.Tablet);
        Assert.False(router.PointerIsAbsolute);
        Report();
        Assert.True(router.PointerIsAbsolute);
        router.Pointer(1, 2, 0, MouseButtons.None);
        Assert.Equal("000100020000", Report());
        router.Press(MouseButtons.Left);
        Assert.Equal("010100020000", Report());
        router.Move(3, 4, 0);                                      // a tablet takes no movements
        Assert.Equal((3, 4), old.Last);
        _bench.Port.Reset();                                       // as when another system starts
        Assert.False(router.PointerIsAbsolute);
        router.Remove(tablet);
        Assert.Equal("OldMouse", router.Pointers.Single().Pointer.GetType().Name);
    }

    sealed class OldMouse : IPointerSink
    {
        public (int, int) Last { get; private set; }
        public bool IsAbsolute => false;
        public void Pointer(int x, int y, int wheel, MouseButtons buttons) => Last = (x, y);
    }
}
