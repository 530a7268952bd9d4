using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>A hub on port 1 of a UHCI controller. USB 2.0, chapter 11; numbers as QEMU 7.2's hub has them.</summary>
public sealed class UsbHubTests : IDisposable
{
    readonly UsbBoard _board = new(Uhci.Piix3, UsbHub.Model);

    UsbHub Hub => (UsbHub)_board.Bus.Devices[0].Device;

    public void Dispose() => _board.Dispose();

    byte[]? Ask(UsbDevice device, byte type, byte request, int value, int index, int length)
    {
        var packet = new UsbPacket(_ => { });
        packet.Begin(UsbToken.Setup, 0);
        packet.Add(UsbBoard.Setup(type, request, value, index, length));
        device.Handle(packet);
        var data = new byte[length];
        packet.Begin(UsbToken.In, 0);
        packet.Add(data);
        return device.Handle(packet) == UsbStatus.Success ? data[..packet.Actual] : null;
    }

    byte[]? Changes()
    {
        var packet = new UsbPacket(_ => { });
        var data = new byte[2];
        packet.Begin(UsbToken.In, 1);
        packet.Add(data);
        return Hub.Handle(packet) == UsbStatus.Success ? data : null;
    }

    uint PortStatus(int port) => BitConverter.ToUInt32(Ask(Hub, 0xA3, 0, 0, port, 4)!);
    void Set(int feature, int port) => Assert.NotNull(Ask(Hub, 0x23, 3, feature, port, 0));
    void Clear(int feature, int port) => Assert.NotNull(Ask(Hub, 0x23, 1, feature, port, 0));

    [Fact]
    public void Descriptors_are_those_of_QEMU()
    {
        Assert.Equal("12011001090000080904AA55010101020301", Convert.ToHexString(Ask(Hub, 0x80, 6, 0x100, 0, 18)!));
        Assert.Equal("09021900010100E000090400000109000000070581030200FF",
            Convert.ToHexString(Ask(Hub, 0x80, 6, 0x200, 0, 25)!));
        Assert.Equal("0A29080A0001000000FF", Convert.ToHexString(Ask(Hub, 0xA0, 6, 0x2900, 0, 15)!));
        Assert.Null(Ask(Hub, 0x80, 6, 0x600, 0, 10));
        Assert.Equal("050F050000", Convert.ToHexString(Ask(Hub, 0x80, 6, 0xF00, 0, 40)!));
        Assert.Null(Ask(Hub, 0xA3, 0, 0, 9, 4));
        Assert.Null(Ask(Hub, 0xA3, 0, 0, 0, 4));
    }

    [Fact]
    public void A_device_on_a_port_is_seen_reset_found_and_lost()
    {
        Ask(Hub, 0, 9, 1, 0, 0);
        Assert.Null(Changes());
        UsbDevice keyboard = _board.Plug(UsbKeyboard.Model, ("port", "1.2"));
        Assert.Equal([4, 0], Changes()!);
        Assert.Equal(0x1_0101u, PortStatus(2));
        Clear(16, 2);
        Assert.Null(Changes());
        Ask(Hub, 0, 5, 7, 0, 0);
        Assert.Null(Hub.Find(0));                                  // not before the port is enabled
        Set(4, 2);
        Assert.Equal(0x10_0103u, PortStatus(2));
        Assert.Same(keyboard, Hub.Find(0));
        Set(2, 2);
        Assert.Equal(0x10_0107u, PortStatus(2));
        Assert.Null(Hub.Find(0));
        _board.Sites[1].Dispose();
        Assert.Equal(0x13_0100u, PortStatus(2));
        Assert.Null(keyboard.Port);
    }

    [Fact]
    public void A_key_wakes_a_suspended_port()
    {
        var keyboard = (UsbKeyboard)_board.Plug(UsbKeyboard.Model, ("port", "1.1"));
        Ask(Hub, 0, 9, 1, 0, 0);
        Set(4, 1);
        Ask(keyboard, 0, 9, 1, 0, 0);
        Set(2, 1);
        keyboard.Key(KeyCode.A, true);
        Assert.Equal(4u, PortStatus(1) & 4);                       // it was not allowed
        Ask(keyboard, 0, 3, 1, 0, 0);
        keyboard.Key(KeyCode.A, false);
        Assert.Equal(0x4_0000u, PortStatus(1) & 0x4_0004);
    }

    [Fact]
    public void Hubs_on_hubs_end_and_ports_are_taken_once()
    {
        string path = "1.1";
        for (int i = 0; i < 4; i++, path += ".1") _board.Plug(UsbHub.Model, ("port", path));
        var error = Assert.Throws<ConfigurationException>(() => _board.Plug(UsbHub.Model, ("port", path)));
        Assert.Contains("usb hub chain too deep", error.Message);
        error = Assert.Throws<ConfigurationException>(() => _board.Plug(UsbKeyboard.Model, ("port", "1")));
        Assert.Contains("usb port 1 (bus", error.Message);
        Assert.Equal(["hub@1/kbd@2"], [_board.Bus.PathOf(_board.Plug(UsbKeyboard.Model, ("port", "1.2")))]);
        Assert.Equal(5, _board.Bus.Below(Hub).Count());
    }

    [Fact]
    public void A_bus_reset_in_the_middle_forgets_what_was_chosen()
    {
        _board.Plug(UsbKeyboard.Model, ("port", "1.1"));
        Ask(Hub, 0, 9, 1, 0, 0);
        Set(4, 1);
        Clear(16, 1);
        Hub.Port!.Reset();
        Assert.Equal(0x1_0101u, PortStatus(1));
        Assert.Equal(0, Hub.Address);
    }
}
