using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Hw.Display;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Display;

/// <summary>A standard VGA on a PCI bus, and a driver that knows the ports and IBM's mode tables.</summary>
sealed class VgaBench : IDisposable
{
    public const ulong Linear = 0xE000_0000, Mmio = 0xF000_0000, Window = 0xA0000;
    const uint ScreenOn = 0x20;

    readonly PciBench _bench = new();

    public VgaBench(int megabytes = 16, params (string Name, string Value)[] given)
    {
        var board = new FakeBoard(new DeviceBench(_bench.Clock)) { Memory = _bench.Memory.Space,
            Ports = _bench.Memory.Ports, Bus = _bench.Bus };
        Card = _bench.Plug(new StdVga(FakeBoard.Defaults(StdVga.Model, [("vgamem_mb", $"{megabytes}"), .. given]),
            board.Site), 2);
        _bench.Bus.WriteConfig(Card.DevFn, 0x10, 4, (uint)Linear);
        _bench.Bus.WriteConfig(Card.DevFn, 0x18, 4, (uint)Mmio);
    }

    public StdVga Card { get; }

    /// <summary>Of the window.</summary>
    public LateWrites Late =>
        _bench.Memory.Space.View.TryFind(Window, out FlatRange range) ? range.Region.LateWrites! : new();

    public FrameBuffer Picture { get; } = new();

    public void Dispose() => _bench.Dispose();

    public uint Config(int offset) => _bench.Bus.ReadConfig(Card.DevFn, offset, 4);
    public void Config(int offset, uint value) => _bench.Bus.WriteConfig(Card.DevFn, offset, 4, value);
    public uint In(ulong port, int size = 1) => (uint)_bench.Memory.Ports.Read(port, size);
    public void Out(ulong port, uint value, int size = 1) => _bench.Memory.Ports.Write(port, size, value);
    public uint Read(ulong address, int size = 1) => (uint)_bench.Memory.Space.Read(address, size);
    public void Write(ulong address, uint value, int size = 1) => _bench.Memory.Space.Write(address, size, value);

    public void Sequencer(int index, uint value) => Out(0x3C4, (uint)index | value << 8, 2);
    public void Graphics(int index, uint value) => Out(0x3CE, (uint)index | value << 8, 2);
    public void Crtc(int index, uint value) => Out(0x3D4, (uint)index | value << 8, 2);

    public void Attribute(int index, uint value)
    {
        In(0x3DA);
        Out(0x3C0, (uint)index);
        Out(0x3C0, value);
        Out(0x3C0, ScreenOn);
    }

    public void Dac(int index, uint red, uint green, uint blue)
    {
        Out(0x3C8, (uint)index);
        foreach (uint part in new[] { red, green, blue }) Out(0x3C9, part);
    }

    public uint Dispi(int index)
    {
        Out(0x1CE, (uint)index, 2);
        return In(0x1CF, 2);
    }

    public void Dispi(int index, uint value)
    {
        Out(0x1CE, (uint)index, 2);
        Out(0x1CF, value, 2);
    }

    /// <summary>Sets a VBE mode as firmware does.</summary>
    public void VbeMode(uint width, uint height, uint bits, uint flags = 0x41)
    {
        Attribute(0x10, 0x41);
        Dispi(4, 0);
        Dispi(1, width);
        Dispi(2, height);
        Dispi(3, bits);
        Dispi(4, flags);
    }

    /// <summary>Loads IBM's table of a mode: misc, sequencer, CRTC, graphics and attribute registers, and a palette in
    /// which entry i is <see cref="Color"/>(i).</summary>
    public void Mode(uint misc, string sequencer, string crtc, string graphics, string attribute)
    {
        Out(0x3C2, misc);
        Load(sequencer, Sequencer);
        Crtc(0x11, 0);
        Load(crtc, Crtc);
        Load(graphics, Graphics);
        Load(attribute, Attribute);
        for (int i = 0; i < 256; i++) Dac(i, (uint)i & 63, (uint)(i >> 2) & 63, (uint)(63 - i) & 63);

        static void Load(string bytes, Action<int, uint> write)
        {
            string[] words = bytes.Split(' ');
            for (int i = 0; i < words.Length; i++) write(i, Convert.ToUInt32(words[i], 16));
        }
    }

    /// <summary>What the palette of <see cref="Mode"/> shows for an entry.</summary>
    public static uint Color(int i) => Wide(i & 63) << 16 | Wide(i >> 2 & 63) << 8 | Wide(63 - i & 63);

    static uint Wide(int six) => (uint)(six << 2 | six >> 4);

    public void Text80x25() => Mode(0x67, "03 00 03 00 02",
        "5F 4F 50 82 55 81 BF 1F 00 4F 0D 0E 00 00 00 00 9C 8E 8F 28 1F 96 B9 A3 FF", "00 00 00 00 00 10 0E 00 FF",
        "00 01 02 03 04 05 14 07 38 39 3A 3B 3C 3D 3E 3F 0C 00 0F 08 00");

    public void Mode13h() => Mode(0x63, "03 01 0F 00 0E",
        "5F 4F 50 82 54 80 BF 1F 00 41 00 00 00 00 00 00 9C 0E 8F 28 40 96 B9 A3 FF", "00 00 00 00 00 40 05 0F FF",
        "00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F 41 00 0F 00 00");

    public void Mode12h() => Mode(0xE3, "03 01 0F 00 06",
        "5F 4F 50 82 54 80 0B 3E 00 40 00 00 00 00 00 00 EA 8C DF 28 00 E7 04 E3 FF", "00 00 00 00 00 00 05 0F FF",
        "00 01 02 03 04 05 14 07 38 39 3A 3B 3C 3D 3E 3F 01 00 0F 00 00");

    public void Mode4() => Mode(0x63, "03 09 03 00 02",
        "2D 27 28 90 2B 80 BF 1F 00 C1 00 00 00 00 00 00 9C 8E 8F 14 00 96 B9 A2 FF", "00 00 00 00 00 30 0F 00 FF",
        "00 13 15 17 02 04 06 07 10 11 12 13 14 15 16 17 01 00 03 00 00");

    /// <summary>Puts a glyph into plane 2 as firmware does: sequential addresses, plane 2 alone. Leaves the mode
    /// broken.</summary>
    public void LoadGlyph(int font, byte code, byte[] lines)
    {
        Sequencer(2, 4);
        Sequencer(4, 6);
        foreach (int plain in new[] { 0, 1, 3, 5 }) Graphics(plain, 0);
        Graphics(6, 4);
        Graphics(8, 0xFF);
        for (int i = 0; i < lines.Length; i++) Write(Window + (ulong)(font + code * 32 + i), lines[i]);
    }

    public uint Pixel(int x, int y) => Picture.Row(y)[x];

    public void Paint() => Card.Paint(Picture);
}
