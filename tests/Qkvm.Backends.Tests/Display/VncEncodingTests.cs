namespace Qkvm.Backends.Tests.Display;

/// <summary>What viewers can ask for beside the first encodings. Spec: RFC 6143 and the protocol's community
/// version.</summary>
public class VncEncodingTests
{
    const int Raw = 0, Zlib = 6, Tight = 7, Zrle = 16, ExtendedDesktopSize = -308, Fence = -312, Continuous = -313,
        Power = -309;

    /// <summary>Larger than what one rectangle of each may have; its streams go on from one update to the
    /// next.</summary>
    [Theory]
    [InlineData(Raw)] [InlineData(Zlib)] [InlineData(Tight)] [InlineData(Zrle)]
    public void A_large_screen_and_its_changes_arrive_whole(int encoding)
    {
        using var bench = new VncBench(2100, 400);
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart(true, encoding);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
        bench.DrawEverything(seed: 2);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal(bench.Screen(), viewer.Picture);
        Assert.All(viewer.Rectangles, rectangle => Assert.Equal(encoding, rectangle.Encoding));
    }

    /// <summary>Each tile has a number of colours of its own, in runs of lengths of its own.</summary>
    [Theory]
    [InlineData(Zlib)] [InlineData(Tight)] [InlineData(Zrle)]
    public void All_numbers_of_colours_arrive(int encoding)
    {
        using var bench = new VncBench(16 * 70, 16 * 5);
        bench.Draw(screen =>
        {
            for (int y = 0; y < screen.Height; y++)
                for (int x = 0; x < screen.Width; x++)
                    screen.Row(y)[x] = (uint)(y / 16 % 2 == 0 ? (x + y * 16) % (x / 16 + 1) * 0x10305
                        : (x + y * screen.Width) / (x / 16 + 1) % 23 * 0x070911) & 0xFFFFFF;
        });
        using VncViewer viewer = bench.ConnectAndStart(true, encoding);
        for (int column = 0; column < 70; column += 7)             // one of few colours, and larger ones
        {
            viewer.Request(incremental: false, column * 16, 0, 16 * (column / 7 + 1), 80);
            viewer.ReadUpdate();
        }
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Compression_makes_a_plain_screen_small()
    {
        using var bench = new VncBench(640, 480);
        foreach (int encoding in (int[])[Zlib, Tight, Zrle])
        {
            using VncViewer viewer = bench.ConnectAndStart(true, encoding, -247);
            viewer.RequestAndRead(incremental: false);
            Assert.InRange(viewer.BytesReceived, 1, 640 * 480 * 4 / 100);
        }
    }

    [Fact]
    public void The_first_encoding_that_both_know_is_used()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, 50, -239, 1, Zrle, Tight, Raw);
        viewer.RequestAndRead(incremental: false);
        Assert.All(viewer.Rectangles, rectangle => Assert.Equal(Zrle, rectangle.Encoding));
    }

    [Fact]
    public void A_fence_comes_back_with_what_it_carried()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, Fence, Raw);
        Assert.Equal([248, 0, 0, 0, 0x80, 0, 0, 0, 0], viewer.Receive(9)); // the server has it, too
        viewer.Send(248, 0, 0, 0, 0x80, 0, 0, 0xF3, 3, 7, 8, 9);
        Assert.Equal([248, 0, 0, 0, 0, 0, 0, 3, 3, 7, 8, 9], viewer.Receive(12));
        viewer.Send(248, 0, 0, 0, 0, 0, 0, 0, 0);                  // an answer: nothing is said to it
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Continuous_updates_need_no_requests()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, Continuous, Raw);
        Assert.Equal([150], viewer.Receive(1));
        viewer.Send(150, 1, 0, 0, 0, 0, 0, 70, 0, 37);
        viewer.ReadUpdate();
        for (uint color = 1; color < 4; color++)
        {
            bench.Draw(screen => screen.Row(20)[30] = color);
            viewer.ReadUpdate();
            Assert.Equal(bench.Screen(), viewer.Picture);
        }
        viewer.Send(150, 0, 0, 0, 0, 0, 0, 70, 0, 37);
        Assert.Equal([150], viewer.Receive(1));
    }

    [Fact]
    public void A_viewer_presses_buttons_where_it_may()
    {
        using var bench = new VncBench(options: new OptionPair("power-control", "on"));
        using VncViewer viewer = bench.ConnectAndStart(true, Power);
        Assert.Equal([250, 0, 1, 1], viewer.Receive(4));
        viewer.Send(250, 0, 1, 2, 250, 0, 1, 4, 250, 0, 1, 3);
        Assert.Equal([250, 0, 1, 0], viewer.Receive(4));           // of a reboot
        Assert.Equal(["power", "reset"], bench.Buttons);
        using var other = new VncBench();
        using VncViewer watcher = other.ConnectAndStart(true, Power);
        watcher.Send(250, 0, 1, 4);
        Assert.Equal([250, 0, 1, 0], watcher.Receive(4));
        Assert.Empty(other.Buttons);
    }

    [Fact]
    public void A_layout_is_told_and_a_wish_for_another_refused_by_a_screen_that_cannot_change()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, ExtendedDesktopSize, Raw);
        viewer.RequestAndRead(incremental: false);
        Assert.Contains((0, 0, 70, 37, ExtendedDesktopSize), viewer.Rectangles);
        viewer.SetDesktopSize(100, 50);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal((1, 1), viewer.Layout);                       // by this viewer, prohibited
        viewer.SetDesktopSize(100, 50, screens: 2);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal((1, 3), viewer.Layout);                       // invalid
    }

    [Fact]
    public void A_screen_that_can_change_does_as_a_viewer_wishes()
    {
        using var bench = new VncBench { CanResize = true };
        using VncViewer viewer = bench.ConnectAndStart(true, ExtendedDesktopSize, Raw);
        viewer.RequestAndRead(incremental: false);
        viewer.SetDesktopSize(100, 50);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal((1, 0, 100, 50), (viewer.Layout.Reason, viewer.Layout.Result, viewer.Width, viewer.Height));
        viewer.RequestAndRead(incremental: true);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }
}
