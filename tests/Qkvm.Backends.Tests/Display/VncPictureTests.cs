using System.Buffers;
using Qkvm.Core.Display;

namespace Qkvm.Backends.Tests.Display;

/// <summary>Encodings that are pictures of other standards, and pointers that viewers draw. Spec: the RFB protocol's
/// community version.</summary>
public class VncPictureTests
{
    const int Raw = 0, Tight = 7, TightPng = -260, Quality9 = -23, Quality0 = -32, Cursor = -239, AlphaCursor = -314,
        DesktopName = -307;

    static VncBench Lossy(int width = 200, int height = 120) =>
        new(width, height, options: new OptionPair("lossy", "on"));

    /// <summary>What cameras see: no two neighbours alike, none far apart.</summary>
    static void DrawGradient(VncBench bench) => bench.Draw(screen =>
    {
        for (int y = 0; y < screen.Height; y++)
            for (int x = 0; x < screen.Width; x++)
                screen.Row(y)[x] = (uint)(x * 255 / screen.Width << 16 | y * 255 / screen.Height << 8
                    | (x + y) * 255 / (screen.Width + screen.Height));
    });

    static int Difference(uint one, uint other) =>
        new[] { 16, 8, 0 }.Max(shift => Math.Abs((int)(one >> shift & 255) - (int)(other >> shift & 255)));

    [Theory]
    [InlineData(Quality9, 3)] [InlineData(Quality9 - 4, 10)] [InlineData(Quality0, 60)]
    public void JPEG_is_sent_where_both_sides_permit_it(int quality, int difference)
    {
        using VncBench bench = Lossy();
        DrawGradient(bench);
        using VncViewer viewer = bench.ConnectAndStart(true, Tight, quality);
        viewer.RequestAndRead(incremental: false);
        Assert.True(viewer.JpegCount > 0);
        uint[] screen = bench.Screen();
        for (int i = 0; i < screen.Length; i++)
            Assert.InRange(Difference(screen[i], viewer.Picture[i]), 0, difference);
    }

    [Theory]
    [InlineData("off", Quality9)] [InlineData("on", Raw)]
    public void Pictures_are_exact_unless_both_sides_permit_less(string lossy, int quality)
    {
        using var bench = new VncBench(200, 120, options: new OptionPair("lossy", lossy));
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart(true, Tight, quality);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(0, viewer.JpegCount);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    [Fact]
    public void Text_stays_exact_where_pictures_need_not()
    {
        using VncBench bench = Lossy();
        bench.Draw(screen =>
        {
            for (int i = 0; i < screen.Pixels.Length; i++) screen.Pixels[i] = i * 7 % 5 == 0 ? 0xFFFFFFu : 0x000080;
        });
        using VncViewer viewer = bench.ConnectAndStart(true, Tight, Quality0);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    /// <summary>Sizes that are no multiples of a block's, and noise, which has all coefficients.</summary>
    [Theory]
    [InlineData(1, 1)] [InlineData(8, 8)] [InlineData(16, 17)] [InlineData(37, 5)] [InlineData(100, 33)]
    public void A_JPEG_of_any_size_is_whole(int width, int height)
    {
        var random = new Random(width);
        uint[] pixels = [.. Enumerable.Range(0, width * height).Select(_ => (uint)random.Next(1 << 24))];
        foreach (int quality in (int[])[1, 50, 100])
        {
            var file = new ArrayBufferWriter<byte>();
            new JpegImage(quality).Write(file, pixels, width, height);
            JpegDecoder.Decode(file.WrittenSpan.ToArray(), width, height);
        }
    }

    [Fact]
    public void PNG_arrives_exact()
    {
        using var bench = new VncBench(2100, 130);
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart(true, TightPng);
        viewer.RequestAndRead(incremental: false);
        Assert.All(viewer.Rectangles, rectangle => Assert.Equal(TightPng, rectangle.Encoding));
        Assert.Equal(bench.Screen(), viewer.Picture);
    }

    /// <summary>Lines of noise, of which some stand still above and below.</summary>
    [Theory]
    [InlineData(16, 40, 560)] [InlineData(-7, 0, 600)] [InlineData(100, 0, 600)] [InlineData(1, 100, 300)]
    public void What_scrolls_is_moved_by_the_viewer_and_what_is_new_is_sent(int by, int top, int bottom)
    {
        using var bench = new VncBench(400, 600);
        bench.DrawEverything();
        using VncViewer viewer = bench.ConnectAndStart(true, 1, Tight, Raw);
        viewer.RequestAndRead(incremental: false);
        for (int round = 0; round < 4; round++)
        {
            bench.Draw(screen =>
            {
                uint[] before = [.. screen.Pixels];
                for (int y = top; y < bottom; y++)
                    if (y + by >= top && y + by < bottom)
                        before.AsSpan((y + by) * 400, 400).CopyTo(screen.Row(y));
                    else for (int x = 0; x < 400; x++) screen.Row(y)[x] = (uint)(x * y * (round + 3)) & 0xFFFFFF;
            });
            viewer.RequestAndRead(incremental: true);
            Assert.Equal(1, viewer.Rectangles[0].Encoding);
            Assert.Equal(bench.Screen(), viewer.Picture);
        }
    }

    /// <summary>Viewers that are behind, or cannot, get the pixels.</summary>
    [Fact]
    public void Viewers_of_all_kinds_see_the_same_while_it_scrolls()
    {
        using var bench = new VncBench(300, 400);
        bench.DrawEverything();
        using VncViewer able = bench.ConnectAndStart(true, 1, Raw), unable = bench.ConnectAndStart(true, Raw),
            late = bench.ConnectAndStart(true, 1, Raw);
        VncViewer[] all = [able, unable, late];
        foreach (VncViewer viewer in all) viewer.RequestAndRead(incremental: false);
        for (int round = 0; round < 30; round++)
        {
            bench.Draw(screen =>
            {
                screen.Pixels[(300 * (3 + round % 9))..].ToArray().CopyTo(screen.Pixels);
                screen.Row(399 - round).Fill((uint)round * 7919);
            });
            able.RequestAndRead(incremental: true);
            if (round % 3 == 0) unable.RequestAndRead(incremental: true);
            if (round % 4 == 0) late.Request(incremental: true, 0, 0, 200, 400);
            if (round % 4 == 0) late.ReadUpdate();
        }
        foreach (VncViewer viewer in all) viewer.Request(incremental: false);
        foreach (VncViewer viewer in all)
        {
            viewer.ReadUpdate();
            Assert.Equal(bench.Screen(), viewer.Picture);
        }
        bench.Draw(screen => screen.Pixels[3000..].ToArray().CopyTo(screen.Pixels));
        foreach (VncViewer viewer in all)
        {
            viewer.RequestAndRead(incremental: true);
            Assert.Equal(bench.Screen(), viewer.Picture);
        }
    }

    [Fact]
    public void The_name_is_told_to_who_asks_for_it()
    {
        using var bench = new VncBench();
        using VncViewer viewer = bench.ConnectAndStart(true, Raw, DesktopName);
        viewer.RequestAndRead(incremental: false);
        Assert.Contains((0, 0, 0, 0, DesktopName), viewer.Rectangles);
        Assert.Equal("a name", viewer.Name);
    }

    // Pointers

    static readonly CursorShape s_pointer = new(3, 2, 1, 1, [0xFF102030, 0, 0x80404040, 0xFFFFFFFF, 0x10010203, 0]);

    [Fact]
    public void A_viewer_draws_the_pointer_with_what_shines_through_it()
    {
        using var bench = new VncBench { Cursor = s_pointer };
        using VncViewer viewer = bench.ConnectAndStart(true, Cursor, AlphaCursor, Raw);
        viewer.RequestAndRead(incremental: false);
        Assert.Contains((1, 1, 3, 2, AlphaCursor), viewer.Rectangles);
        Assert.Equal(s_pointer.Pixels, viewer.Pointer);
        Assert.DoesNotContain(VncBench.PaintedPointer, viewer.Picture);
        bench.Ask(() => bench.Cursor = CursorShape.Hidden);
        viewer.RequestAndRead(incremental: true);
        Assert.Equal([(0, 0, 0, 0, AlphaCursor)], viewer.Rectangles);
    }

    [Fact]
    public void A_viewer_that_knows_masks_gets_what_is_seen_at_least_by_half()
    {
        using var bench = new VncBench { Cursor = s_pointer };
        using VncViewer viewer = bench.ConnectAndStart(true, Cursor, Raw);
        viewer.RequestAndRead(incremental: false);
        Assert.Equal([0x102030, 0, 0x404040, 0xFFFFFF, 0x010203, 0], viewer.Pointer.Select(p => p & 0xFFFFFF));
        Assert.Equal([true, false, true, true, false, false], viewer.PointerMask);
    }

    [Fact]
    public void The_pointer_is_painted_while_somebody_watches_who_cannot_draw_it()
    {
        using var bench = new VncBench { Cursor = s_pointer };
        using VncViewer able = bench.ConnectAndStart(true, AlphaCursor, Raw), unable = bench.ConnectAndStart(true, Raw);
        unable.RequestAndRead(incremental: false);
        Assert.Contains(VncBench.PaintedPointer, unable.Picture);
        able.RequestAndRead(incremental: false);
        Assert.Contains((0, 0, 0, 0, AlphaCursor), able.Rectangles); // else it would see two
    }
}
