using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Pci;
using Qkvm.Hw.Display;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Display;

/// <summary>bochs-display, secondary-vga and ramfb.</summary>
public sealed class OtherDisplayTests : IDisposable
{
    const ulong Linear = 0xE000_0000, Mmio = 0xF000_0000, Dispi = Mmio + 0x500;

    readonly PciBench _bench = new();
    readonly FrameBuffer _picture = new();

    public void Dispose() => _bench.Dispose();

    FakeBoard Board => new(new DeviceBench(_bench.Clock)) { Memory = _bench.Memory.Space, Ports = _bench.Memory.Ports,
        Bus = _bench.Bus };

    PciDevice Plug(DeviceModel model, params (string, string)[] given)
    {
        var card = (PciDevice)model.Create(FakeBoard.Defaults(model, given), Board.Site);
        _bench.Plug(card, 2);
        _bench.Bus.WriteConfig(card.DevFn, 0x10, 4, (uint)Linear);
        _bench.Bus.WriteConfig(card.DevFn, 0x18, 4, (uint)Mmio);
        return card;
    }

    void SetDispi(int index, uint value) => _bench.Memory.Space.Write(Dispi + (ulong)index * 2, 2, value);

    [Theory]
    [InlineData("bochs-display")] [InlineData("secondary-vga")]
    public void A_linear_mode_is_set_by_memory_and_shown(string name)
    {
        DeviceModel model = name == BochsDisplay.Model.Name ? BochsDisplay.Model : StdVga.Secondary;
        PciDevice card = Plug(model);
        Assert.Equal((0x11111234u, 0x03800002u), (card.Config.Get32(0), card.Config.Get32(8)));
        Assert.Equal((16UL << 20, 0x1000UL), (card.BarRegions[0]!.Size, card.BarRegions[2]!.Size));
        Assert.Equal(0xFFul, _bench.Memory.Ports.Read(0x3CC, 1));  // no ports of VGA
        Assert.Equal(0xFF00u, _bench.Memory.Space.Read(Mmio, 2));  // the monitor
        Assert.Equal(0xB0C5u, _bench.Memory.Space.Read(Dispi, 2));
        if (name != BochsDisplay.Model.Name)
        {
            _bench.Memory.Space.Write(Mmio + 0x400, 1, 0x20);      // the screen is on, as its driver says
            _bench.Memory.Space.Write(Mmio + 0x404, 2, 0x0101);
        }
        _bench.Memory.Space.Write(Linear, 4, 0xFFFF_FFFF);
        SetDispi(1, 640);
        SetDispi(2, 480);
        SetDispi(3, 32);
        SetDispi(4, 0x41);
        _bench.Memory.Space.Write(Linear + (5 * 640 + 3) * 4, 4, 0x00FF_8040);
        ((IDisplaySource)card).Paint(_picture);
        Assert.Equal((640, 480), (_picture.Width, _picture.Height));
        Assert.Equal((0u, 0xFF8040u), (_picture.Row(0)[0], _picture.Row(5)[3]));   // cleared as the mode began
    }

    [Fact]
    public void Without_a_mode_a_bochs_display_is_black()
    {
        var card = (BochsDisplay)Plug(BochsDisplay.Model);
        card.Paint(_picture);
        Assert.Equal((640, 480), (_picture.Width, _picture.Height));
        SetDispi(3, 8);
        SetDispi(4, 1);
        card.Paint(_picture);                                      // there is no palette
        Assert.Equal(-1, _picture.Pixels.IndexOfAnyExcept(0u));
    }

    [Theory]
    [InlineData("3M")] [InlineData("512M")] [InlineData("0")]
    public void An_impossible_memory_size_is_refused(string size) => Assert.Contains("vgamem",
        Assert.Throws<ConfigurationException>(() => Plug(BochsDisplay.Model, ("vgamem", size))).Message);

    byte[] Configure(Memory<byte> file, ulong address, uint format, uint width, uint height, uint stride)
    {
        BinaryPrimitives.WriteUInt64BigEndian(file.Span, address);
        foreach ((int at, uint value) in new[] { (8, format), (12, 0u), (16, width), (20, height), (24, stride) })
            BinaryPrimitives.WriteUInt32BigEndian(file.Span[at..], value);
        return file.ToArray();
    }

    [Fact]
    public void Ramfb_shows_what_its_file_tells_of()
    {
        FakeBoard board = Board;
        var ramfb = (Ramfb)Ramfb.Model.Create(FakeBoard.Defaults(Ramfb.Model), board.Site);
        Memory<byte> file = board.WritableFiles["etc/ramfb"];
        Assert.Equal(28, file.Length);
        ramfb.Paint(_picture);
        Assert.Equal((640, 480), (_picture.Width, _picture.Height));
        _bench.Memory.Space.Write(0x10_0000 + 512 * 4 + 8, 4, 0xFF123456);
        Configure(file, 0x10_0000, 0x34325258, 320, 200, 512 * 4);
        ramfb.Paint(_picture);
        Assert.Equal((320, 200), (_picture.Width, _picture.Height));
        Assert.Equal(0x123456u, _picture.Row(1)[2]);
        ramfb.Reset();
        ramfb.Paint(_picture);
        Assert.Equal(640, _picture.Width);
    }

    [Theory]
    [InlineData(TestMemory.IoAddress, 0x34325258u, 64u, 64u, 0u)]
    [InlineData(ulong.MaxValue - 3, 0x34325258u, 64u, 64u, uint.MaxValue)]
    [InlineData(0UL, 0x34325258u, 16000u, 12000u, 4u)] [InlineData(0UL, 0x34325258u, 0u, 0u, 0u)]
    [InlineData(0UL, 0x34325258u, uint.MaxValue, uint.MaxValue, 0u)] [InlineData(0UL, 0xDEADu, 64u, 64u, 0u)]
    public void Ramfb_reaches_memory_alone_and_stays_bounded(ulong address, uint format, uint width, uint height,
        uint stride)
    {
        FakeBoard board = Board;
        var ramfb = (Ramfb)Ramfb.Model.Create(FakeBoard.Defaults(Ramfb.Model), board.Site);
        Configure(board.WritableFiles["etc/ramfb"], address, format, width, height, stride);
        ramfb.Paint(_picture);
        Assert.InRange((long)_picture.Width * _picture.Height, 1, 1 << 24);
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }
}
