using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Display;
using Qkvm.Core.Display;
using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.Machine;

namespace Qkvm.Backends.Tests.Display;

/// <summary>The server seen by a viewer. Spec: RFC 6143.</summary>
public class VncServerTests
{
    const int Raw = 0, Hextile = 5, Zlib = 6, Tight = 7, Zrle = 16, DesktopSize = -223, PointerType = -257,
        ExtendedKey = -258;

    [Theory]
    [InlineData(3)] [InlineData(7)] [InlineData(8)] [InlineData(889)] [InlineData(5)]
    public void Viewers_of_each_version_get_the_screens_size_and_name_and_then_its_picture(int minor)
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        using VncViewer viewer = bench.Connect();
        viewer.Handshake(minor);
        Assert.Equal((70, 37, "a name"), (viewer.Width, viewer.Height, viewer.Name));
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    public static TheoryData<int, bool, int, int, int, int, int, int> Formats => new()
    {
        { 32, false, 255, 16, 255, 8, 255, 0 }, { 32, true, 255, 16, 255, 8, 255, 0 },
            { 32, false, 255, 0, 255, 8, 255, 16 }, { 32, true, 1023, 20, 1023, 10, 1023, 0 },
        { 16, false, 31, 11, 63, 5, 31, 0 }, { 16, true, 31, 11, 63, 5, 31, 0 }, { 16, false, 31, 10, 31, 5, 31, 0 },
            { 8, false, 7, 0, 7, 3, 3, 6 }, { 8, true, 3, 4, 3, 2, 3, 0 },
    };

    [Theory]
    [MemberData(nameof(Formats))]
    public void Each_encoding_carries_the_picture_in_the_format_that_the_viewer_wants(int bits, bool bigEndian,
        int redMax, int redShift, int greenMax, int greenShift,
        int blueMax, int blueShift)
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        uint[] expected =
            [.. bench.Screen()
            .Select(c => Scale(c >> 16, redMax) << redShift | Scale(c >> 8, greenMax) << greenShift | Scale(c, blueMax)
            << blueShift)];
        foreach (int encoding in (int[])[Raw, Hextile, Zlib, Tight, Zrle])
        {
            using VncViewer viewer = bench.ConnectAndStart(true, encoding);
            viewer.SetPixelFormat(bits, bigEndian, true, (redMax, redShift), (greenMax, greenShift),
                (blueMax, blueShift));
            viewer.RequestAndRead(incremental: false);
            Assert.All(viewer.Rectangles, r => Assert.Equal(encoding, r.Encoding));
            Assert.Equal(expected, viewer.Picture);
        }

        static uint Scale(uint color, int max) => (uint)Math.Round((color & 255) * max / 255.0);
    }

    [Fact]
    public void A_viewer_without_true_colour_is_given_a_colour_map_and_indices_into_it()
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart(true, Hextile);
        viewer.SetPixelFormat(8, false, false, (0, 0), (0, 0), (0, 0));
        viewer.RequestAndRead(incremental: false);
        uint[] screen = bench.Screen();
        for (int i = 0; i < screen.Length; i++)
        {
            var (red, green, blue) = viewer.ColorMap[viewer.Picture[i]];
            // half a step of three bits
            Assert.InRange(red / 257.0, (screen[i] >> 16) - 19.0, (screen[i] >> 16) + 19.0);
            Assert.InRange(green / 257.0, (screen[i] >> 8 & 255) - 19.0, (screen[i] >> 8 & 255) + 19.0);
            Assert.InRange(blue / 257.0, (screen[i] & 255) - 43.0, (screen[i] & 255) + 43.0);
        }
    }

    [Fact]
    public void An_incremental_update_carries_the_changed_tiles_alone()
    {
        using var bench = new VncBench(200, 100);
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart(true, Hextile);
        viewer.RequestAndRead(incremental: false);
        viewer.Request(incremental: true);
        bench.Draw(screen => screen.Row(50)[100] ^= 0xFFFFFF);
        viewer.ReadUpdate();
        Assert.Equal([(96, 48, 16, 16, Hextile)], viewer.Rectangles);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Changes_outside_the_wanted_part_wait_until_it_is_wanted()
    {
        using var bench = new VncBench(200, 100);
        using VncViewer viewer = bench.ConnectAndStart(true, Raw);
        viewer.RequestAndRead(incremental: false);
        bench.Draw(screen => { screen.Row(5)[5] = 1; screen.Row(90)[190] = 2; });
        viewer.Request(incremental: true, 0, 0, 16, 16);
        viewer.ReadUpdate();
        Assert.Equal([(0, 0, 16, 16, Raw)], viewer.Rectangles);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal([(176, 80, 16, 16, Raw)], viewer.Rectangles);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Nobody_paints_for_a_viewer_that_asked_for_nothing()
    {
        using var bench = new VncBench();
        using VncViewer idle = bench.ConnectAndStart(true, Raw);
        idle.RequestAndRead(incremental: false);
        int before = bench.Ask(() => bench.Paints);
        bench.DrawEverything();
        idle.Send(4, 1, 0, 0, 0, 0, 0, (byte)'x');
        bench.NextKey();
        Assert.Equal(before, bench.Ask(() => bench.Paints));
    }

    [Fact]
    public void A_viewer_that_can_resize_is_told_the_new_size_and_then_sees_all_of_it()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, Hextile, DesktopSize);
        viewer.RequestAndRead(incremental: false);
        viewer.Request(incremental: true);
        bench.Draw(screen => screen.Resize(123, 45));
        bench.DrawEverything();
        viewer.ReadUpdate();
        if (viewer.Width == 70) viewer.RequestAndRead(incremental: true); // the old size's last change came first
        Assert.Equal((0, 0, 123, 45, DesktopSize), viewer.Rectangles[^1]);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Theory]
    [InlineData(123, 80)] [InlineData(33, 20)] [InlineData(123, 20)]
    public void A_viewer_that_cannot_resize_sees_what_its_window_holds(int width, int height)
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, Raw);
        viewer.RequestAndRead(incremental: false);
        bench.Draw(screen => screen.Resize(width, height));
        bench.DrawEverything();
        viewer.RequestAndRead(incremental: false);
        viewer.RequestAndRead(incremental: false);
        uint[] screen = bench.Screen();
        for (int y = 0; y < Math.Min(height, 37); y++)
            for (int x = 0; x < Math.Min(width, 70); x++)
                Assert.Equal(screen[y * width + x], viewer.Picture[y * 70 + x]);
    }

    [Fact]
    public void Several_viewers_watch_together_and_one_that_wants_to_be_alone_ends_the_others()
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        using VncViewer first = bench.ConnectAndStart(), second = bench.ConnectAndStart();
        first.RequestAndRead(incremental: false);
        second.RequestAndRead(incremental: false);
        Assert.Equal(first.Picture, second.Picture);
        using VncViewer alone = bench.ConnectAndStart(shared: false);
        first.AssertHungUp();
        second.AssertHungUp();
        alone.RequestAndRead(incremental: false);
    }

    [Fact]
    public void With_force_shared_one_that_wants_to_be_alone_is_refused()
    {
        using var bench = new VncBench(share: "force-shared");
        using VncViewer first = bench.ConnectAndStart();
        Assert.Throws<EndOfStreamException>(() => bench.ConnectAndStart(shared: false));
        first.RequestAndRead(incremental: false);
    }

    [Theory]
    [InlineData(0x61, KeyCode.A)] [InlineData(0x31, KeyCode.D1)] [InlineData(0x2D, KeyCode.Minus)]
    [InlineData(0x5C, KeyCode.Backslash)]
    [InlineData(0x20, KeyCode.Spc)] [InlineData(0x60, KeyCode.GraveAccent)] [InlineData(0x2F, KeyCode.Slash)]
    [InlineData(0x27, KeyCode.Apostrophe)]
    [InlineData(0xFF0D, KeyCode.Ret)] [InlineData(0xFFE1, KeyCode.Shift)] [InlineData(0xFFBE, KeyCode.F1)]
    [InlineData(0xFFC7, KeyCode.F10)] [InlineData(0xFFC9, KeyCode.F12)]
    [InlineData(0xFF52, KeyCode.Up)] [InlineData(0xFFFF, KeyCode.Delete)] [InlineData(0xFF9E, KeyCode.Kp0)]
    [InlineData(0xFF9A, KeyCode.Kp9)] [InlineData(0xFFAF, KeyCode.KpDivide)]
    [InlineData(0xFFAA, KeyCode.KpMultiply)] [InlineData(0xFFAB, KeyCode.KpAdd)]
    [InlineData(0xFFAD, KeyCode.KpSubtract)] [InlineData(0xFF8D, KeyCode.KpEnter)]
    [InlineData(0xFFEA, KeyCode.AltR)] [InlineData(0xFF13, KeyCode.Pause)]
    public void A_key_event_presses_the_key_of_a_US_keyboard(int keysym, KeyCode key)
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Send(4, 1, 0, 0, 0, 0, (byte)(keysym >> 8), (byte)keysym);
        viewer.Send(4, 0, 0, 0, 0, 0, (byte)(keysym >> 8), (byte)keysym);
        Assert.Equal((key, true), bench.NextKey());
        Assert.Equal((key, false), bench.NextKey());
    }

    [Fact]
    public void Extended_key_events_are_announced_and_press_by_scan_code()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, Raw, ExtendedKey);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(ExtendedKey, viewer.Rectangles[0].Encoding);
        viewer.Send(255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xC8);
        Assert.Equal((KeyCode.Up, true), bench.NextKey());
        viewer.Send(255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x56);
        Assert.Equal((KeyCode.Less, true), bench.NextKey());
        viewer.Send(255, 0, 0, 1, 0, 0, 0, (byte)'q', 0, 0, 0, 0);
        Assert.Equal((KeyCode.Q, true), bench.NextKey());
    }

    [Fact]
    public void Keys_come_up_when_their_viewer_leaves()
    {
        using var bench = new VncBench();
        VncViewer viewer = bench.ConnectAndStart();
        viewer.Send(4, 1, 0, 0, 0, 0, 0, (byte)'x');
        Assert.Equal((KeyCode.X, true), bench.NextKey());
        viewer.Dispose();
        Assert.Equal((KeyCode.X, false), bench.NextKey());
    }

    [Fact]
    public void A_tablet_gets_positions_across_the_screen_and_the_wheel_turns_once_a_press()
    {
        using var bench = new VncBench(101, 51);
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Send(5, 0, 0, 100, 0, 25);
        Assert.Equal((32767, 32767 / 2, 0, MouseButtons.None), bench.NextMove());
        viewer.Send(5, 1 | 4, 0, 0, 0, 0);
        Assert.Equal((0, 0, 0, MouseButtons.Left | MouseButtons.Right), bench.NextMove());
        viewer.Send(5, 8, 0, 0, 0, 0, 5, 8, 0, 0, 0, 0, 5, 0x10, 0, 0, 0, 0);
        Assert.Equal([-1, 0, 1], new[] { bench.NextMove(), bench.NextMove(), bench.NextMove() }.Select(m => m.Item3));
        viewer.Send(5, 2, 0xFF, 0xFF, 0xFF, 0xFF);
        Assert.Equal((32767, 32767, 0, MouseButtons.Middle), bench.NextMove());
    }

    [Fact]
    public void A_mouse_gets_movements()
    {
        using var bench = new VncBench(absolute: false);
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Send(5, 0, 0, 30, 0, 20, 5, 0, 0, 25, 0, 29);
        Assert.Equal((0, 0, 0, MouseButtons.None), bench.NextMove());
        Assert.Equal((-5, 9, 0, MouseButtons.None), bench.NextMove());
    }

    [Fact]
    public void A_viewer_that_can_send_movements_is_told_to_and_does()
    {
        using var bench = new VncBench(absolute: false);
        using VncViewer viewer = bench.ConnectAndStart(true, Raw, PointerType);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal((0, 0, 0, 0, PointerType), viewer.Rectangles[0]);
        viewer.Send(5, 0, 0x80, 0x04, 0x7F, 0xFE);
        Assert.Equal((5, -1, 0, MouseButtons.None), bench.NextMove());
    }

    // Addresses

    static VncServer Listen(VncBench bench, string address, List<string> printed, params OptionPair[] options) =>
        bench.Ask(() =>
        VncServer.Create(new Properties(VncServer.Model, Options.Of($"-vnc {address}",
            [new("vnc", address), .. options])),
            new DisplayParts(bench, bench.Input, bench.Loop, "", printed.Add)));

    [Theory]
    [InlineData("bad", "no vnc port")] [InlineData(":x", "'x'")] [InlineData("localhost:70000", "'70000'")]
    [InlineData("unix:", "unix:/path")]
    public void A_bad_address_is_explained(string address, string expected)
    {
        using var bench = new VncBench();
        Assert.Contains(expected, Assert.Throws<ConfigurationException>(() => Listen(bench, address, [])).Message);
    }

    [Theory]
    [InlineData("sasl", "on")] [InlineData("websocket", "some")] [InlineData("share", "maybe")]
    [InlineData("foo", "1")]
    public void An_option_that_is_not_there_is_named(string name, string value)
    {
        using var bench = new VncBench();
        Assert.Contains(name,
            Assert.Throws<ConfigurationException>(() => Listen(bench, "localhost:0", [], new OptionPair(name, value)))
            .Message);
    }

    [Theory]
    [InlineData("tls-creds")] [InlineData("password-secret")]
    public void An_object_that_is_not_there_is_named(string name)
    {
        using var bench = new VncBench();
        var e = Assert.Throws<ConfigurationException>(() => Listen(bench, "localhost:0", [],
            new OptionPair(name, "some0")));
        Assert.Contains("'some0'", e.Message);
    }

    [Fact]
    public void A_busy_port_is_refused_alone_and_passed_over_in_a_range()
    {
        using var bench = new VncBench();
        using var other = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        other.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        other.Listen();
        int port = ((IPEndPoint)other.LocalEndPoint!).Port, display = port - VncOptions.FirstPort;
        List<string> printed = [];
        var e = Assert.Throws<ConfigurationException>(() => Listen(bench, $"127.0.0.1:{display}", printed));
        Assert.Contains($"port {port}", e.Message);
        Assert.Contains("to=99", e.Message);
        Assert.Empty(printed);
        VncServer server = Listen(bench, $"127.0.0.1:{display}", printed, new OptionPair("to", $"{display + 50}"),
            new OptionPair("password", "off"));
        Assert.Equal([$"VNC server running on {server.LocalEndPoint}"], printed);
        Assert.NotEqual($"127.0.0.1:{port}", server.LocalEndPoint);
        RemoteDisplayInfo shown = bench.Ask(server.Query);
        Assert.Equal(("default", "none", 0), (shown.Id, shown.Auth.FullName, shown.Clients.Count));
        EndPointInfo at = Assert.Single(shown.Servers);
        Assert.Equal((server.LocalEndPoint, "ipv4"), ($"{at.Host}:{at.Service}", at.Family));
        bench.Ask(() => { server.Dispose(); return 0; });
    }
}
