namespace Qkvm.Backends.Tests.Display;

/// <summary>Viewers that lie, flood, stall or talk garbage: they end, or are borne, and nobody else suffers.</summary>
[Collection(nameof(Alone))]
public class HostileViewerTests
{
    static void AssertOthersAreServed(VncBench bench)
    {
        using VncViewer honest = bench.ConnectAndStart();
        honest.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), honest.Picture);
    }

    [Theory]
    [InlineData("GET / HTTP/1.1\r\n")] [InlineData("RFB 004.001\n")] [InlineData("RFB 003.00x\n")]
    [InlineData("RFB 003.0080")]
    public void A_stranger_is_hung_up_on(string greeting)
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.Connect();
        viewer.Receive(12);
        viewer.Send(System.Text.Encoding.ASCII.GetBytes(greeting));
        viewer.AssertHungUp();
        AssertOthersAreServed(bench);
    }

    [Fact]
    public void A_security_type_that_was_not_offered_is_refused_with_a_reason()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.Connect();
        viewer.Receive(12);
        viewer.Send("RFB 003.008\n"u8.ToArray());
        viewer.Receive(2);
        viewer.Send(2);
        Assert.Equal(1, viewer.Dword());
        Assert.Contains("None", System.Text.Encoding.ASCII.GetString(viewer.Receive(viewer.Dword())));
        viewer.AssertHungUp();
    }

    [Theory]
    [InlineData("")] [InlineData("RFB 003")] [InlineData("RFB 003.008\n")] [InlineData("RFB 003.008\n\u0001")]
    [InlineData("RFB 003.003\n")]
    public void Half_a_handshake_ends(string start)
    {
        using var bench = new VncBench(handshakeLimit: TimeSpan.FromMilliseconds(300));
        using VncViewer viewer = bench.Connect();
        viewer.Send(System.Text.Encoding.Latin1.GetBytes(start));
        viewer.AssertHungUp();
    }

    [Fact]
    public void A_viewer_that_introduced_itself_may_be_silent()
    {
        using var bench = new VncBench(handshakeLimit: TimeSpan.FromMilliseconds(100));
        using VncViewer viewer = bench.ConnectAndStart(), late = bench.Connect();
        late.AssertHungUp();                                       // its limit has passed, and so has the first one's
        viewer.RequestAndRead(incremental: false);
    }

    [Fact]
    public void Tens_of_thousands_of_encodings_are_read_and_those_that_are_known_count()
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart();
        for (int round = 0; round < 3; round++) viewer.SetEncodings([.. Enumerable.Range(1000, 65_534), 5]);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(5, viewer.Rectangles[0].Encoding);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Cut_text_is_skipped()
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Send([6, 0, 0, 0, 0, 0x0F, 0xFF, 0xFF, .. new byte[0xFFFFF]]);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Theory]
    [InlineData(new byte[] { 6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF })]         // cut text without end
    [InlineData(new byte[] { 6, 0, 0, 0, 0x00, 0x10, 0x00, 0x01 })]
    [InlineData(new byte[] { 77 })]                                         // no such message
    [InlineData(new byte[] { 255, 9 })]                                     // no such submessage
    // pixels of 24 bits
    [InlineData(new byte[] { 0, 0, 0, 0, 24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0 })]
    // a shift beyond the pixel
    [InlineData(new byte[] { 0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 200, 8, 0, 0, 0, 0 })]
    // colours beyond the pixel
    [InlineData(new byte[] { 0, 0, 0, 0, 8, 8, 0, 1, 0xFF, 0xFF, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0 })]
    [InlineData(new byte[] { 0, 0, 0, 0, 32, 24, 0, 1, 0, 0, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0 })]     // no red at all
    public void A_broken_message_ends_the_connection(byte[] message)
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Send(message);
        viewer.AssertHungUp();
        AssertOthersAreServed(bench);
    }

    [Fact]
    public void Requests_beyond_the_screen_are_cut_to_it()
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart();
        viewer.Request(false, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF);
        viewer.Request(false, 0, 0, 0xFFFF, 0xFFFF);
        viewer.ReadUpdate();
        Assert.All(viewer.Rectangles, r => Assert.True(r.X + r.Width <= 70 && r.Y + r.Height <= 37));
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void A_viewer_that_asks_and_never_reads_costs_one_update_and_holds_up_nobody()
    {
        using var bench = new VncBench(1600, 1200);
        bench.DrawEverything();
        using VncViewer deaf = bench.ConnectAndStart();
        for (int i = 0; i < 2000; i++) deaf.Request(incremental: false);
        AssertOthersAreServed(bench);
        long before = bench.Ask(() => GC.GetTotalMemory(true));
        for (int i = 0; i < 2000; i++) deaf.Request(incremental: false);
        for (int i = 0; i < 3; i++)
        {
            bench.DrawEverything(i);
            AssertOthersAreServed(bench);
        }
        Assert.InRange(bench.Ask(() => GC.GetTotalMemory(true)) - before, long.MinValue, 32 << 20);
        deaf.ReadUpdate();                                         // it may still change its mind
    }

    [Fact]
    public void A_hundred_viewers_watch_together()
    {
        using var bench = new VncBench();
        bench.DrawEverything();
        List<VncViewer> viewers = [.. Enumerable.Range(0, 100).Select(_ => bench.ConnectAndStart())];
        foreach (VncViewer viewer in viewers) viewer.Request(incremental: false);
        foreach (VncViewer viewer in viewers)
        {
            viewer.ReadUpdate();
            Assert.Equal(bench.Screen(), viewer.Picture);
            viewer.Dispose();
        }
    }

    /// <summary>Fences are answered with as many bytes as they have.</summary>
    [Fact]
    public void Who_does_not_read_answers_is_not_listened_to_until_it_does()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart();
        byte[] fence = [248, 0, 0, 0, 0x80, 0, 0, 0, 64, .. new byte[64]];
        byte[] many = [.. Enumerable.Repeat(fence, 1000).SelectMany(one => one)];
        long sent = 0, most = 8 << 20;
        viewer.WriteTimeout = 300;
        Assert.Throws<IOException>(() =>
        {
            for (; sent < most; sent += many.Length) viewer.Send(many);
        });
        AssertOthersAreServed(bench);
        for (long i = 0; i < sent / fence.Length; i++) Assert.Equal([248, 0, 0, 0], viewer.Receive(73)[..4]);
    }

    [Fact]
    public void Viewers_may_wish_for_other_sizes_without_pause()
    {
        using var bench = new VncBench { CanResize = true };
        using VncViewer viewer = bench.ConnectAndStart(true, -308, 0);
        for (int i = 0; i < 2000; i++) viewer.SetDesktopSize(100 + i % 700, 50 + i % 500);
        viewer.SetDesktopSize(200, 100);
        do viewer.RequestAndRead(incremental: false);
        while ((viewer.Width, viewer.Height) != (200, 100) || viewer.Rectangles[0].Encoding != 0);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    /// <summary>Sound, of which nobody told it.</summary>
    [Fact]
    public void A_viewer_that_asks_for_sound_hears_none_and_stays()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, -259, 0);
        viewer.Send(255, 1, 0, 2, 3, 2, 0, 0, 0xAC, 0x44);
        viewer.Send(255, 1, 0, 0);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Random_bytes_after_the_handshake_do_no_harm()
    {
        using var bench = new VncBench();
        var random = new Random(5);
        for (int round = 0; round < 50; round++)
        {
            using VncViewer viewer = bench.ConnectAndStart();
            var noise = new byte[random.Next(1, 3000)];
            random.NextBytes(noise);
            noise[0] = (byte)random.Next(7);
            try { viewer.Send(noise); }
            catch (System.Net.Sockets.SocketException) { }         // it was hung up on in the middle
        }
        bench.DrawEverything();
        AssertOthersAreServed(bench);
    }
}
