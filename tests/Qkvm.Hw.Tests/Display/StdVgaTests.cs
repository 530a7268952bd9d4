using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Hw.Display;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Display;

/// <summary>Identity, BARs, palette and the VBE registers. Spec: QEMU docs/specs/standard-vga.txt; Bochs VBE
/// Extensions.</summary>
public sealed class StdVgaTests : IDisposable
{
    readonly VgaBench _vga = new();

    public void Dispose() => _vga.Dispose();

    [Fact]
    public void It_is_1234_1111_revision_2_with_the_memory_in_BAR_0_and_4_KiB_of_registers_in_BAR_2()
    {
        Assert.Equal(0x11111234u, _vga.Config(0));
        Assert.Equal(0x03000002u, _vga.Config(8));
        Assert.Equal(0x11001AF4u, _vga.Config(0x2C));
        _vga.Config(0x10, uint.MaxValue);
        _vga.Config(0x18, uint.MaxValue);
        Assert.Equal(0xFF000008u, _vga.Config(0x10));
        Assert.Equal(0xFFFFF000u, _vga.Config(0x18));
        Assert.Equal(0u, _vga.Config(0x14));
    }

    [Theory]
    [InlineData("3")] [InlineData("512")] [InlineData("0")]
    public void An_impossible_memory_size_is_refused(string size)
    {
        using var bench = new PciBench();
        var board = new FakeBoard(new DeviceBench(bench.Clock)) { Bus = bench.Bus };
        var e = Assert.Throws<ConfigurationException>(() =>
            new StdVga(FakeBoard.Defaults(StdVga.Model, ("vgamem_mb", size)), board.Site));
        Assert.Contains("vgamem_mb", e.Message);
    }

    [Fact]
    public void Writes_to_the_window_may_come_late_but_before_the_picture()
    {
        int settled = 0;
        _vga.Late.Gathered = () => settled++;
        _vga.Card.Paint(_vga.Picture);
        Assert.Equal(1, settled);
    }

    [Fact]
    public void BAR_2_shows_the_VGA_ports_and_the_VBE_registers()
    {
        _vga.Write(VgaBench.Mmio + 0x404, 0x0A04, 2);              // 3C4h and 3C5h
        _vga.Out(0x3C4, 4);
        Assert.Equal(0x0Au, _vga.In(0x3C5));
        Assert.Equal(0xB0C5u, _vga.Read(VgaBench.Mmio + 0x500, 2));
        _vga.Write(VgaBench.Mmio + 0x502, 800, 2);
        Assert.Equal(800u, _vga.Dispi(1));
        Assert.Equal(8u, _vga.Read(VgaBench.Mmio + 0x600, 4));
        Assert.Equal(0x1E1E1E1Eu, _vga.Read(VgaBench.Mmio + 0x604, 4));
    }

    [Fact]
    public void BAR_2_begins_with_the_monitors_identification()
    {
        Assert.Equal((0xFFFF_FF00u, 0x00FF_FFFFu), (_vga.Read(VgaBench.Mmio, 4), _vga.Read(VgaBench.Mmio + 4, 4)));
        Assert.Equal((1280, 800), Preferred(_vga));
        Assert.Equal(0u, _vga.Read(VgaBench.Mmio + 0x80, 4));
        _vga.Write(VgaBench.Mmio, 0x55);
        Assert.Equal(0u, _vga.Read(VgaBench.Mmio));                // read-only
        using var wide = new VgaBench(16, ("xres", "1600"), ("yres", "900"), ("xmax", "800"));
        Assert.Equal((1600, 900), Preferred(wide));
        Assert.Equal(0x21u, wide.Read(VgaBench.Mmio + 35));        // 640x480 and 800x600 alone
        using var none = new VgaBench(16, ("edid", "off"));
        Assert.Equal(0xFFFF_FFFFu, none.Read(VgaBench.Mmio + 4, 4));

        static (int, int) Preferred(VgaBench vga) => (Pixels(vga, 56), Pixels(vga, 59));
        static int Pixels(VgaBench vga, ulong at) =>
            (int)(vga.Read(VgaBench.Mmio + at) | vga.Read(VgaBench.Mmio + at + 2) >> 4 << 8);
    }

    /// <summary>"Index 1CEh, data 1CFh and 1D0h", words.</summary>
    [Theory]
    [InlineData(0x1CF)] [InlineData(0x1D0)]
    public void The_VBE_data_port_has_16_bits_at_both_of_its_places(int port)
    {
        _vga.Out(0x1CE, 1, 2);
        _vga.Out((ulong)port, 0x0512, 2);
        Assert.Equal(0x0512u, _vga.In(0x1CF, 2));
        Assert.Equal(0x0512u, _vga.In((ulong)port, 2));
        _vga.Out(0x1CE, 0x0300_0002, 4);                           // index and data at once
        Assert.Equal(0x0300u, _vga.In((ulong)port, 2));
        Assert.Equal(0xFFu, _vga.In(0x1D2));
    }

    [Fact]
    public void The_palette_reads_back_from_its_own_index_and_tells_which_way_it_goes()
    {
        _vga.Dac(7, 1, 2, 3);
        _vga.Dac(8, 4, 5, 6);
        Assert.Equal(0u, _vga.In(0x3C7));
        _vga.Out(0x3C7, 7);
        Assert.Equal(3u, _vga.In(0x3C7));
        Assert.Equal([1u, 2u, 3u, 4u, 5u, 6u], Enumerable.Range(0, 6).Select(_ => _vga.In(0x3C9)));
        Assert.Equal(9u, _vga.In(0x3C8));
    }

    [Fact]
    public void Colour_and_monochrome_addresses_exclude_each_other()
    {
        _vga.Out(0x3C2, 1);
        _vga.Crtc(0x0F, 0x12);
        Assert.Equal(0xFFu, _vga.In(0x3B5));
        _vga.Out(0x3C2, 0);
        _vga.Out(0x3B4, 0x0F);
        Assert.Equal(0x12u, _vga.In(0x3B5));
        Assert.Equal(0xFFu, _vga.In(0x3D5));
    }

    [Fact]
    public void A_printer_port_at_3BCh_is_not_the_cards()
    {
        _vga.Out(0x3C2, 0);
        for (ulong port = 0x3BB; port < 0x3C0; port++) Assert.Equal(0xFFu, _vga.In(port));
    }

    [Fact]
    public void Protected_CRTC_registers_keep_all_but_line_compares_bit()
    {
        _vga.Out(0x3C2, 1);
        _vga.Crtc(0x11, 0);
        for (int i = 0; i < 8; i++) _vga.Crtc(i, 0x0F);
        _vga.Crtc(0x11, 0x80);
        for (int i = 0; i < 8; i++) _vga.Crtc(i, 0xFF);
        for (uint i = 0; i < 8; i++)
        {
            _vga.Out(0x3D4, i);
            Assert.Equal(i == 7 ? 0x1Fu : 0x0Fu, _vga.In(0x3D5));
        }
    }

    [Fact]
    public void Input_status_1_shows_both_states_and_resets_the_attribute_flip_flop()
    {
        _vga.Out(0x3C2, 1);
        uint first = _vga.In(0x3DA), second = _vga.In(0x3DA);
        Assert.Equal(9u, first ^ second);
        _vga.Out(0x3C0, 0x11);
        _vga.In(0x3DA);
        _vga.Out(0x3C0, 0x12);                                     // an index again
        _vga.Out(0x3C0, 0x0A);
        _vga.Out(0x3C0, 0x12);
        Assert.Equal(0x0Au, _vga.In(0x3C1));
    }

    [Theory]
    [InlineData(15u)] [InlineData(16u)] [InlineData(24u)] [InlineData(32u)] [InlineData(8u)]
    public void A_linear_mode_shows_its_pixels(uint bits)
    {
        _vga.VbeMode(800, 600, bits);
        for (int i = 0; i < 256; i++) _vga.Dac(i, (uint)i & 63, 63 - (uint)i & 63, 5);
        int bytes = (int)(bits + 7) / 8;
        uint pixel = bits switch { 15 => 31u << 10 | 16 << 5 | 1, 16 => 31u << 11 | 32 << 5 | 1, 8 => 33,
            _ => 0xFF8408 };
        uint shown = bits == 8 ? 0x86_7914u : 0xFF8408;            // 33 → 86h, 30 → 79h, 5 → 14h
        if (bits == 16) shown = 0xFF8208;                          // six bits of green: 32 → 82h
        ulong at = VgaBench.Linear + (ulong)((123 * 800 + 45) * bytes);
        for (int i = 0; i < bytes; i++) _vga.Write(at + (ulong)i, pixel >> (i * 8) & 0xFF);
        _vga.Paint();
        Assert.Equal((800, 600), (_vga.Picture.Width, _vga.Picture.Height));
        Assert.Equal(shown, _vga.Pixel(45, 123));
        Assert.Equal(bits == 8 ? 0x00FF14u : 0, _vga.Pixel(46, 123));
    }

    [Fact]
    public void A_4_bit_mode_is_planar()
    {
        _vga.Mode12h();
        _vga.VbeMode(800, 600, 4, 0x81);
        _vga.Sequencer(2, 2);
        _vga.Write(VgaBench.Window + 100 * 7 + 3, 0x80);
        _vga.Paint();
        Assert.Equal(VgaBench.Color(2), _vga.Pixel(24, 7));
        Assert.Equal(VgaBench.Color(0), _vga.Pixel(25, 7));
    }

    [Fact]
    public void Virtual_width_and_offsets_pan_the_picture()
    {
        _vga.VbeMode(640, 480, 32);
        _vga.Dispi(6, 1024);
        _vga.Dispi(8, 100);
        _vga.Dispi(9, 50);
        Assert.Equal(16u * 1024 * 1024 / 4096, _vga.Dispi(7));
        _vga.Write(VgaBench.Linear + (ulong)((50 + 20) * 1024 + 100 + 10) * 4, 0x123456, 4);
        _vga.Paint();
        Assert.Equal(0x123456u, _vga.Pixel(10, 20));
    }

    [Fact]
    public void The_bank_register_moves_the_64_KiB_window_over_the_memory_whatever_the_sequencer_says()
    {
        _vga.VbeMode(1024, 768, 32);
        _vga.Sequencer(4, 0);
        _vga.Sequencer(2, 0);
        _vga.Dispi(5, 3);
        _vga.Write(VgaBench.Window + 0x1234, 0x77);
        Assert.Equal(0x77u, _vga.Read(VgaBench.Linear + 0x31234));
        Assert.Equal(0x77u, _vga.Read(VgaBench.Window + 0x1234));
    }

    [Fact]
    public void Enabling_clears_the_picture_unless_asked_not_to()
    {
        _vga.Write(VgaBench.Linear + 400, 0xAB);
        _vga.VbeMode(640, 480, 32, 0xC1);
        Assert.Equal(0xABu, _vga.Read(VgaBench.Linear + 400));
        _vga.VbeMode(640, 480, 32, 0x41);
        Assert.Equal(0u, _vga.Read(VgaBench.Linear + 400));
    }

    [Fact]
    public void An_8_bit_palette_shows_all_its_bits()
    {
        _vga.VbeMode(640, 480, 8, 0x61);
        _vga.Dac(0, 0x81, 0xFE, 0x03);
        _vga.Paint();
        Assert.Equal(0x81FE03u, _vga.Pixel(0, 0));
    }

    [Fact]
    public void Limits_are_told_on_request_and_kept()
    {
        _vga.Dispi(4, 2);
        Assert.Equal([16000u, 12000u, 32u], new[] { _vga.Dispi(1), _vga.Dispi(2), _vga.Dispi(3) });
        Assert.Equal(256u, _vga.Dispi(10));
        _vga.VbeMode(0xFFFF, 0xFFFF, 7);
        Assert.Equal(32u, _vga.Dispi(3));
        Assert.Equal(16000u, _vga.Dispi(1));
        Assert.Equal(16u * 1024 * 1024 / 64000, _vga.Dispi(2));
        _vga.VbeMode(0, 0, 32);
        Assert.Equal((8u, 1u), (_vga.Dispi(1), _vga.Dispi(2)));
        _vga.VbeMode(1366, 768, 32);
        Assert.Equal(1360u, _vga.Dispi(1));
        _vga.Dispi(9, 0xFFFF);
        Assert.Equal(0u, _vga.Dispi(9));
    }

    [Fact]
    public void The_resolution_may_be_written_in_any_order()
    {
        _vga.VbeMode(640, 480, 32);
        _vga.Dispi(4, 0);
        _vga.Dispi(2, 3000);
        _vga.Dispi(1, 4000);
        _vga.Dispi(3, 8);
        _vga.Dispi(4, 0x41);
        Assert.Equal((4000u, 3000u), (_vga.Dispi(1), _vga.Dispi(2)));
    }

    [Fact]
    public void Whatever_a_guest_writes_the_picture_stays_bounded_and_nothing_throws()
    {
        using var vga = new VgaBench(megabytes: 1);
        var random = new Random(7);
        for (int round = 0; round < 150; round++)
        {
            for (int i = 0; i < 120; i++)
            {
                uint value = random.Next(3)
                    switch { 0 => (uint)random.Next(), 1 => 0xFFFFFFFF, _ => (uint)random.Next(256) };
                switch (random.Next(6))
                {
                    case 0: vga.Out(0x3B0 + (ulong)random.Next(0x30), value, 1 << random.Next(3)); break;
                    case 1: vga.Out(random.Next(2) == 0 ? 0x3CEu : 0x3C4, value, 2); break;
                    case 2: vga.Out(0x3D4, value, 2); break;
                    case 3: if (random.Next(4) == 0) vga.Dispi(random.Next(12), value & 0xFFFF); break;
                    case 4: vga.Write(VgaBench.Window + (ulong)random.Next(0x20000), value, 1 << random.Next(3)); break;
                    default: vga.Read(VgaBench.Window + (ulong)random.Next(0x20000), 1 << random.Next(3)); break;
                }
            }
            if (random.Next(2) == 0) vga.Dispi(4, (uint)random.Next(2) * 0x81);
            vga.In(0x3BA);
            vga.In(0x3DA);
            vga.Out(0x3C0, 0x20);
            vga.Paint();
            Assert.InRange(vga.Picture.Pixels.Length, 1, 1 << 24);
        }
    }

    [Fact]
    public void State()
    {
        DeviceSuite.Check(
            deviceBench => new Bound(new FakeBoard(deviceBench) { Bus = new PciBench().Bus }),
            device =>
            {
                var board = ((Bound)device).Board;
                foreach (var (port, value) in new (ulong, ulong)[] { (0x3C4, 0x0A02), (0x3CE, 0x0305), (0x3D4, 0x5501),
                    (0x1CE, 1), (0x1CF, 1024), (0x1CE, 2),
                    (0x1CF, 768), (0x1CE, 3), (0x1CF, 32), (0x1CE, 4), (0x1CF, 0x61), (0x1CE, 5), (0x1CF, 7),
                        (0x3C8, 0x0107), (0x3C0, 0x20) })
                    board.Ports.Write(port, 2, value);
                board.Ports.Write(0x3C7, 1, 9);
                board.Ports.Read(0x3C9, 1);
            });
    }

    /// <summary>The card with the board whose ports it took.</summary>
    sealed class Bound(FakeBoard board) : IDevice
    {
        readonly StdVga _device = new(FakeBoard.Defaults(StdVga.Model), board.Site);
        public FakeBoard Board => board;
        public string Name => _device.Name;
        public void Reset() => _device.Reset();
        public void Exchange(StateStream state) => _device.Exchange(state);
    }
}
