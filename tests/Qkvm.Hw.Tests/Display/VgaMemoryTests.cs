namespace Qkvm.Hw.Tests.Display;

/// <summary>The window at A0000h. Spec: IBM Personal System/2 Hardware Interface Technical Reference, "Video Graphics
/// Array", "Graphics Controller".</summary>
public sealed class VgaMemoryTests : IDisposable
{
    readonly VgaBench _vga = new();

    public void Dispose() => _vga.Dispose();

    byte Plane(int plane, int address) => (byte)_vga.Read(VgaBench.Linear + (ulong)(address * 4 + plane));
    void Plane(int plane, int address, byte value) => _vga.Write(VgaBench.Linear + (ulong)(address * 4 + plane), value);

    [Theory]
    [InlineData(0)] [InlineData(1)] [InlineData(2)] [InlineData(3)]
    public void A_write_mode_does_to_each_pixel_what_the_reference_says(int mode)
    {
        _vga.Mode12h();
        var random = new Random(mode);
        for (int round = 0; round < 400; round++)
        {
            int address = random.Next(0x10000), latched = random.Next(0x10000), rotate = random.Next(8),
                function = random.Next(4);
            byte setReset = (byte)random.Next(16), enable = (byte)random.Next(16), mask = (byte)random.Next(256),
                map = (byte)random.Next(16), data = (byte)random.Next(256);
            for (int p = 0; p < 4; p++)
            {
                Plane(p, address, (byte)random.Next(256));
                Plane(p, latched, (byte)random.Next(256));
            }
            byte[] before = [Plane(0, address), Plane(1, address), Plane(2, address), Plane(3, address)];
            byte[] latch = [Plane(0, latched), Plane(1, latched), Plane(2, latched), Plane(3, latched)];
            _vga.Graphics(0, setReset);
            _vga.Graphics(1, enable);
            _vga.Graphics(3, (uint)(rotate | function << 3));
            _vga.Graphics(5, (uint)mode);
            _vga.Graphics(8, mask);
            _vga.Sequencer(2, map);
            _vga.Read(VgaBench.Window + (ulong)latched);
            _vga.Write(VgaBench.Window + (ulong)address, data);

            for (int p = 0; p < 4; p++)
                for (int bit = 0; bit < 8; bit++)
                {
                    int source = Bit(data, (bit + rotate) % 8), old = Bit(latch[p], bit), written;
                    bool selected = Bit(mask, bit) == 1;
                    int operand = mode switch { 0 => Bit(enable, p) == 1 ? Bit(setReset, p)
                        : source, 2 => Bit(data, p), _ => Bit(setReset, p) };
                    if (mode == 3) selected &= source == 1;
                    int combined = function
                        switch { 1 => operand & old, 2 => operand | old, 3 => operand ^ old, _ => operand };
                    written = mode == 1 ? old : selected ? combined : old;
                    Assert.Equal(Bit(map, p) == 1 ? written : Bit(before[p], bit), Bit(Plane(p, address), bit));
                }
        }

        static int Bit(byte value, int bit) => value >> bit & 1;
    }

    [Fact]
    public void Read_mode_0_shows_the_selected_plane()
    {
        _vga.Mode12h();
        for (int p = 0; p < 4; p++) Plane(p, 0x1234, (byte)(0x11 * (p + 1)));
        for (int p = 0; p < 4; p++)
        {
            _vga.Graphics(4, (uint)p);
            Assert.Equal(0x11u * ((uint)p + 1), _vga.Read(VgaBench.Window + 0x1234));
        }
    }

    [Fact]
    public void Read_mode_1_marks_the_pixels_whose_colour_compares_equal_in_the_planes_that_care()
    {
        _vga.Mode12h();
        var random = new Random(1);
        _vga.Graphics(5, 8);
        for (int round = 0; round < 200; round++)
        {
            byte[] planes = new byte[4];
            random.NextBytes(planes);
            uint compare = (uint)random.Next(16), care = (uint)random.Next(16), expected = 0;
            for (int p = 0; p < 4; p++) Plane(p, 5, planes[p]);
            _vga.Graphics(2, compare);
            _vga.Graphics(7, care);
            for (int bit = 0; bit < 8; bit++)
            {
                uint color = 0;
                for (int p = 0; p < 4; p++) color |= (uint)(planes[p] >> bit & 1) << p;
                if (((color ^ compare) & care) == 0) expected |= 1u << bit;
            }
            Assert.Equal(expected, _vga.Read(VgaBench.Window + 5));
        }
    }

    [Fact]
    public void Chain_4_spreads_consecutive_bytes_over_the_planes_and_honours_the_map_mask()
    {
        _vga.Mode13h();
        _vga.Write(VgaBench.Window + 0x100, 0x44332211, 4);
        Assert.Equal([0x11, 0x22, 0x33, 0x44], Enumerable.Range(0, 4).Select(p => (int)Plane(p, 0x40)));
        _vga.Sequencer(2, 5);
        _vga.Write(VgaBench.Window + 0x100, 0xDDCCBBAA, 4);
        Assert.Equal([0xAA, 0x22, 0xCC, 0x44], Enumerable.Range(0, 4).Select(p => (int)Plane(p, 0x40)));
        Assert.Equal(0x44CC22AAu, _vga.Read(VgaBench.Window + 0x100, 4));
    }

    [Fact]
    public void Odd_even_addressing_puts_characters_into_plane_0_and_attributes_into_plane_1()
    {
        _vga.Text80x25();
        _vga.Write(0xB8000 + 6, 0x1F41, 2);
        Assert.Equal(0x41, Plane(0, 3));
        Assert.Equal(0x1F, Plane(1, 3));
        Assert.Equal(0x1F41u, _vga.Read(0xB8000 + 6, 2));
    }

    [Theory]
    [InlineData(0, 0xA0000, 0xC0000)] [InlineData(1, 0xA0000, 0xB0000)] [InlineData(2, 0xB0000, 0xB8000)]
    [InlineData(3, 0xB8000, 0xC0000)]
    public void The_miscellaneous_register_says_which_part_of_the_window_answers(int map, int start, int end)
    {
        _vga.Mode12h();
        _vga.Graphics(6, (uint)(map << 2 | 1));
        foreach (int at in new[] { 0xA0000, 0xAFFFF, 0xB0000, 0xB7FFF, 0xB8000, 0xBFFFF })
        {
            _vga.Write((ulong)at, 0x5A);
            bool inside = at >= start && at < end;
            Assert.Equal(inside ? 0x5Au : 0xFFu, _vga.Read((ulong)at));
            if (inside) Assert.Equal(0x5A, Plane(0, at - start));
        }
    }
}
