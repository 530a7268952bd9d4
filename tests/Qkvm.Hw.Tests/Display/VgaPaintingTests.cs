namespace Qkvm.Hw.Tests.Display;

/// <summary>Pictures of IBM's modes.</summary>
public sealed class VgaPaintingTests : IDisposable
{
    static readonly byte[] Glyph = [0, 0, 0x10, 0x38, 0x6C, 0xC6, 0xC6, 0xFE, 0xC6, 0xC6, 0xC6, 0xC7, 0, 0, 0, 0x81];

    readonly VgaBench _vga = new();

    public void Dispose() => _vga.Dispose();

    /// <summary>An attribute's colour through the attribute palette of the text modes.</summary>
    static uint TextColor(int i) =>
        VgaBench.Color(new[] { 0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F }[i]);

    void Text(byte code, byte attribute, int font = 0)
    {
        _vga.LoadGlyph(font, code, Glyph);
        _vga.Text80x25();
        _vga.Crtc(0xA, 0x20);                                      // no cursor
        for (int i = 0; i < 80 * 25; i++) _vga.Write(0xB8000 + (ulong)i * 2, 0x0020, 2);
        _vga.Write(0xB8000 + (80 * 2 + 5) * 2, (uint)(attribute << 8 | code), 2);
    }

    void AssertGlyph(uint ink, uint paper, bool extended)
    {
        _vga.Paint();
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 9; x++)
            {
                bool lit = x < 8 ? (Glyph[y] & 0x80 >> x) != 0 : extended && (Glyph[y] & 1) != 0;
                Assert.Equal(lit ? ink : paper, _vga.Pixel(5 * 9 + x, 2 * 16 + y));
            }
    }

    [Fact]
    public void Text_shows_the_glyph_in_the_attributes_colours_nine_dots_wide()
    {
        Text((byte)'A', 0x1E);
        AssertGlyph(TextColor(14), TextColor(1), extended: false);
        Assert.Equal((720, 400), (_vga.Picture.Width, _vga.Picture.Height));
        Assert.Equal(TextColor(0), _vga.Pixel(0, 0));
    }

    [Fact]
    public void A_line_drawing_character_goes_on_through_the_ninth_dot()
    {
        Text(0xC4, 0x07);
        AssertGlyph(TextColor(7), TextColor(0), extended: true);
    }

    [Theory]
    [InlineData(true, 1)] [InlineData(false, 9)]
    public void Bit_7_of_the_attribute_blinks_or_brightens_the_background(bool blink, int paper)
    {
        Text((byte)'A', 0x9F);
        _vga.Attribute(0x10, blink ? 0x0Cu : 4);
        AssertGlyph(TextColor(15), TextColor(paper), extended: false);
    }

    [Theory]
    [InlineData(0x00, 0x0000)] [InlineData(0x04, 0x4000)] [InlineData(0x08, 0x8000)] [InlineData(0x0C, 0xC000)]
    [InlineData(0x20, 0x2000)] [InlineData(0x24, 0x6000)] [InlineData(0x28, 0xA000)] [InlineData(0x2C, 0xE000)]
    public void A_bright_character_comes_from_the_font_that_map_A_selects(int select, int font)
    {
        Text((byte)'A', 0x0F, font);
        _vga.Sequencer(3, (uint)select);
        AssertGlyph(TextColor(15), TextColor(0), extended: false);
    }

    [Theory]
    [InlineData(0x01, 0x4000)] [InlineData(0x03, 0xC000)] [InlineData(0x10, 0x2000)] [InlineData(0x12, 0xA000)]
    public void A_dim_character_comes_from_the_font_that_map_B_selects(int select, int font)
    {
        Text((byte)'A', 0x07, font);
        _vga.Sequencer(3, (uint)select);
        AssertGlyph(TextColor(7), TextColor(0), extended: false);
    }

    [Fact]
    public void The_cursor_fills_its_lines_of_its_cell()
    {
        Text((byte)'A', 0x1E);
        _vga.Crtc(0xA, 13);
        _vga.Crtc(0xB, 14);
        _vga.Crtc(0xE, 0);
        _vga.Crtc(0xF, 2 * 80 + 5);
        _vga.Paint();
        for (int y = 12; y < 15; y++)
            for (int x = 0; x < 9; x++) Assert.Equal(TextColor(y >= 13 ? 14 : 1), _vga.Pixel(45 + x, 32 + y));
    }

    [Fact]
    public void The_start_address_scrolls_text()
    {
        Text((byte)'A', 0x1E);
        _vga.Crtc(0xD, 80);
        _vga.Paint();
        Assert.Equal(TextColor(14), _vga.Pixel(45 + 3, 16 + 2));
    }

    [Fact]
    public void Forty_columns_are_as_wide_as_eighty()
    {
        Text((byte)'A', 0x1E);
        _vga.Sequencer(1, 9);
        _vga.Crtc(0x11, 0x0E);                                     // unprotected
        _vga.Crtc(1, 39);
        _vga.Crtc(0x13, 20);
        _vga.Write(0xB8000, 0x1E41, 2);
        _vga.Paint();
        Assert.Equal((640, 400), (_vga.Picture.Width, _vga.Picture.Height));
        for (int x = 0; x < 16; x++)
            Assert.Equal(TextColor((Glyph[3] & 0x80 >> (x / 2)) != 0 ? 14 : 1), _vga.Pixel(x, 3));
    }

    [Fact]
    public void Mode_13h_shows_each_byte_as_two_by_two_dots_of_its_palette_entry()
    {
        _vga.Mode13h();
        for (int i = 0; i < 320 * 200; i++) _vga.Write(VgaBench.Window + (ulong)i, (uint)(i * 7 + i / 320));
        _vga.Paint();
        Assert.Equal((640, 400), (_vga.Picture.Width, _vga.Picture.Height));
        for (int y = 0; y < 400; y++)
            for (int x = 0; x < 640; x++)
            {
                int i = y / 2 * 320 + x / 2;
                Assert.Equal(VgaBench.Color((byte)(i * 7 + i / 320)), _vga.Pixel(x, y));
            }
    }

    [Fact]
    public void The_pel_mask_covers_palette_bits()
    {
        _vga.Mode13h();
        _vga.Write(VgaBench.Window, 0xC5);
        _vga.Out(0x3C6, 0x0F);
        _vga.Paint();
        Assert.Equal(VgaBench.Color(5), _vga.Pixel(0, 0));
    }

    [Fact]
    public void Mode_12h_takes_a_bit_of_each_plane_and_planes_can_be_disabled()
    {
        _vga.Mode12h();
        var random = new Random(3);
        var planes = new byte[4][];
        for (int p = 0; p < 4; p++)
        {
            planes[p] = new byte[640 / 8 * 480];
            random.NextBytes(planes[p]);
            _vga.Sequencer(2, 1u << p);
            for (int i = 0; i < planes[p].Length; i++) _vga.Write(VgaBench.Window + (ulong)i, planes[p][i]);
        }
        foreach (uint enabled in new uint[] { 15, 5 })
        {
            _vga.Attribute(0x12, enabled);
            _vga.Paint();
            Assert.Equal((640, 480), (_vga.Picture.Width, _vga.Picture.Height));
            for (int y = 0; y < 480; y++)
                for (int x = 0; x < 640; x++)
                {
                    int color = 0;
                    for (int p = 0; p < 4; p++) color |= (planes[p][y * 80 + x / 8] >> (7 - x % 8) & 1) << p;
                    Assert.Equal(TextColor(color & (int)enabled), _vga.Pixel(x, y));
                }
        }
    }

    [Fact]
    public void The_line_after_line_compare_starts_at_address_0()
    {
        _vga.Mode12h();
        _vga.Sequencer(2, 1);
        _vga.Write(VgaBench.Window, 0x80);                         // the first dot of address 0
        _vga.Crtc(0xC, 0x40);
        _vga.Crtc(0x18, 99);
        _vga.Crtc(7, 0x3E & ~0x10);
        _vga.Crtc(9, 0);
        _vga.Paint();
        Assert.Equal(TextColor(0), _vga.Pixel(0, 0));
        Assert.Equal(TextColor(0), _vga.Pixel(0, 99));
        Assert.Equal(TextColor(1), _vga.Pixel(0, 100));
        Assert.Equal(TextColor(0), _vga.Pixel(0, 101));
    }

    [Fact]
    public void CGA_graphics_have_two_bits_a_pixel_and_odd_lines_8_KiB_further()
    {
        _vga.Mode4();
        int[] palette = [0, 0x13, 0x15, 0x17];
        for (int i = 0; i < 0x4000; i++) _vga.Write(0xB8000 + (ulong)i, (uint)(byte)(i * 5 + i / 256));
        _vga.Paint();
        Assert.Equal((640, 400), (_vga.Picture.Width, _vga.Picture.Height));
        for (int y = 0; y < 200; y++)
            for (int x = 0; x < 320; x++)
            {
                int i = y / 2 * 80 + y % 2 * 0x2000 + x / 4;
                int color = (byte)(i * 5 + i / 256) >> (6 - x % 4 * 2) & 3;
                Assert.Equal(VgaBench.Color(palette[color]), _vga.Pixel(x * 2 + 1, y * 2 + 1));
            }
    }

    [Fact]
    public void The_screen_is_black_while_the_attribute_controller_belongs_to_the_processor()
    {
        _vga.Mode13h();
        _vga.Write(VgaBench.Window, 0xFF);
        _vga.In(0x3DA);
        _vga.Out(0x3C0, 0);
        _vga.Paint();
        Assert.Equal(-1, _vga.Picture.Pixels.IndexOfAnyExcept(0u));
        _vga.In(0x3DA);
        _vga.Out(0x3C0, 0x20);
        _vga.Paint();
        Assert.Equal(VgaBench.Color(255), _vga.Pixel(0, 0));
    }
}
