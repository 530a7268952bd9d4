using System.Buffers.Binary;
using Qkvm.Core.Display;
using Qkvm.Host;

namespace Qkvm.Hw.Display;

/// <summary>Turns registers and video memory into a picture: text, planar and packed pixels. Reads only.</summary>
sealed class VgaPainter(VgaRegisters registers, BochsDispi dispi, GuestRam ram)
{
    const int MaxWidth = 2048, MaxHeight = 2048;

    readonly uint[] _colors = new uint[256];

    public void Paint(FrameBuffer target)
    {
        if (dispi.IsEnabled) PaintLinear(target);
        else if (!registers.IsScreenOn) Blank(target);
        else if ((registers.Graphics[VgaRegisters.Miscellaneous] & 1) != 0) PaintGraphics(target);
        else PaintText(target);
    }

    static void Blank(FrameBuffer target)
    {
        if (target.Width == 0) target.Resize(720, 400);
        target.Pixels.Clear();
    }

    byte[] Crtc => registers.Crtc;

    int Lines => 1 + (Crtc[VgaRegisters.VerticalDisplayEnd] | (Crtc[VgaRegisters.Overflow] & 2) << 7 | (Crtc[VgaRegisters.Overflow] & 0x40) << 3);

    int StartAddress => Crtc[VgaRegisters.StartAddressHigh] << 8 | Crtc[VgaRegisters.StartAddressLow];

    /// <summary>The scan line at which the picture starts again from address 0 (split screen).</summary>
    int SplitLine => Crtc[VgaRegisters.LineCompare] | (Crtc[VgaRegisters.Overflow] & 0x10) << 4 | (Crtc[VgaRegisters.MaximumScanLine] & 0x40) << 3;

    byte Byte(long place) => (ulong)place < ram.Size ? ram.Span((ulong)place, 1)[0] : (byte)0;

    /// <summary>The sixteen colours of the attribute controller.</summary>
    void AttributeColors()
    {
        byte mode = registers.Attribute[VgaRegisters.ModeControl], select = registers.Attribute[VgaRegisters.ColorSelect];
        for (int i = 0; i < 16; i++)
        {
            int index = registers.Attribute[i];
            index = (mode & 0x80) != 0 ? (select & 15) << 4 | index & 15 : (select & 12) << 4 | index & 63;
            _colors[i] = registers.Color(index);
        }
    }

    void PaintText(FrameBuffer target)
    {
        AttributeColors();
        int columns = Crtc[VgaRegisters.HorizontalDisplayEnd] + 1, cellHeight = (Crtc[VgaRegisters.MaximumScanLine] & 31) + 1;
        int cellWidth = (registers.Sequencer[VgaRegisters.ClockingMode] & 1) != 0 ? 8 : 9;
        int lines = Lines;
        if ((Crtc[VgaRegisters.MaximumScanLine] & 0x80) != 0) lines /= 2;
        int rows = Math.Max(1, lines / cellHeight), pitch = Crtc[VgaRegisters.Offset] * 2;
        if (columns * cellWidth > MaxWidth || rows * cellHeight > MaxHeight) { Blank(target); return; }
        target.Resize(columns * cellWidth, rows * cellHeight);
        int cursor = Crtc[VgaRegisters.CursorHigh] << 8 | Crtc[VgaRegisters.CursorLow];
        bool hidden = (Crtc[VgaRegisters.CursorStart] & 0x20) != 0;
        int firstLine = Crtc[VgaRegisters.CursorStart] & 31, lastLine = Math.Min(Crtc[VgaRegisters.CursorEnd] & 31, cellHeight - 1);
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++)
            {
                int cell = StartAddress + row * pitch + column;
                byte code = Byte(cell * 4L), attribute = Byte(cell * 4L + 1);
                Cell(target, column * cellWidth, row * cellHeight, cellWidth, cellHeight, code, attribute);
                if (cell != cursor || hidden) continue;
                for (int y = firstLine; y <= lastLine; y++)
                    target.Row(row * cellHeight + y).Slice(column * cellWidth, cellWidth).Fill(_colors[attribute & 15]);
            }
    }

    void Cell(FrameBuffer target, int left, int top, int width, int height, byte code, byte attribute)
    {
        // "Character Map Select": bit 3 of the attribute chooses between two fonts of 8 KiB in plane 2.
        byte map = registers.Sequencer[VgaRegisters.CharacterMap];
        int a = (map >> 2 & 3) | (map >> 5 & 1) << 2, b = (map & 3) | (map >> 4 & 1) << 2;
        int font = FontOffset((attribute & 8) != 0 ? a : b) + code * 32;
        bool blink = (registers.Attribute[VgaRegisters.ModeControl] & 8) != 0;
        uint ink = _colors[attribute & 15], paper = _colors[attribute >> 4 & (blink ? 7 : 15)];
        bool extendLine = (registers.Attribute[VgaRegisters.ModeControl] & 4) != 0 && code is >= 0xC0 and <= 0xDF;
        for (int y = 0; y < height; y++)
        {
            byte bits = Byte((font + y) * 4L + 2);
            Span<uint> pixels = target.Row(top + y).Slice(left, width);
            for (int x = 0; x < 8; x++) pixels[x] = (bits & 0x80 >> x) != 0 ? ink : paper;
            if (width == 9) pixels[8] = extendLine && (bits & 1) != 0 ? ink : paper;
        }
    }

    static int FontOffset(int map) => (map & 3) * 0x4000 + (map >> 2) * 0x2000;

    void PaintGraphics(FrameBuffer target)
    {
        int shift = registers.Graphics[VgaRegisters.GraphicsMode] >> 5 & 3;
        bool packed = (shift & 2) != 0;
        int width = (Crtc[VgaRegisters.HorizontalDisplayEnd] + 1) * 8, lines = Lines;
        if (packed) width /= 2;
        if (!packed && (registers.Sequencer[VgaRegisters.ClockingMode] & 8) != 0) width = Math.Max(8, width); // half clock: as wide as the guest thinks
        int repeat = ((Crtc[VgaRegisters.MaximumScanLine] & 0x80) != 0 ? 2 : 1) * ((Crtc[VgaRegisters.MaximumScanLine] & 31) + 1);
        // CGA's interleaved lines come from address bits replaced by row scan bits, "Mode Control", bits 0 and 1.
        bool interleaved = (Crtc[0x17] & 1) == 0;
        if (interleaved) repeat = Math.Max(1, repeat / 2);
        int height = Math.Max(1, lines / repeat);
        if (width > MaxWidth || height > MaxHeight) { Blank(target); return; }
        target.Resize(width, height);
        if (packed) { for (int i = 0; i < 256; i++) _colors[i] = registers.Color(i); }
        else AttributeColors();
        long pitch = Crtc[VgaRegisters.Offset] * 8L, start = StartAddress * 4L;
        int split = SplitLine;
        for (int y = 0; y < height; y++)
        {
            bool below = y * repeat > split;
            int line = below ? y - split / repeat - 1 : y;
            long row = (below ? 0 : start) + (interleaved ? (line / 2) * pitch + (line & 1) * 0x2000 * 4L : line * pitch);
            if (packed) PackedRow(target.Row(y), row);
            else if ((shift & 1) != 0) CgaRow(target.Row(y), row);
            else PlanarRow(target.Row(y), row);
        }
    }

    void PackedRow(Span<uint> pixels, long at)
    {
        for (int x = 0; x < pixels.Length; x++) pixels[x] = _colors[Byte(at + x)];
    }

    void PlanarRow(Span<uint> pixels, long at)
    {
        byte enabled = registers.Attribute[VgaRegisters.ColorPlaneEnable];
        for (int x = 0; x < pixels.Length; x++)
        {
            long place = at + x / 8 * 4L;
            int bit = 7 - x % 8, color = 0;
            for (int plane = 0; plane < 4; plane++) color |= (Byte(place + plane) >> bit & 1) << plane;
            pixels[x] = _colors[color & enabled & 15];
        }
    }

    /// <summary>Two bits a pixel, bytes alternating between planes 0 and 1.</summary>
    void CgaRow(Span<uint> pixels, long at)
    {
        for (int x = 0; x < pixels.Length; x++)
        {
            int unit = x / 4;
            byte bits = Byte(at + unit / 2 * 4L + unit % 2);
            pixels[x] = _colors[bits >> (6 - x % 4 * 2) & 3];
        }
    }

    void PaintLinear(FrameBuffer target)
    {
        target.Resize(dispi.Width, dispi.Height);
        int bits = dispi.Bits;
        if (bits <= 8) for (int i = 0; i < 256; i++) _colors[i] = registers.Color(i);
        if (bits == 4) AttributeColors();
        for (int y = 0; y < target.Height; y++)
        {
            ulong at = dispi.Start + (ulong)y * dispi.Pitch;
            int length = bits == 4 ? target.Width / 2 : target.Width * ((bits + 7) / 8);
            if (bits == 4) { PlanarRow(target.Row(y), (long)at * 4); continue; }
            if (at + (ulong)length > ram.Size) return;
            LinearRow(target.Row(y), ram.Span(at, length), bits);
        }
    }

    void LinearRow(Span<uint> pixels, ReadOnlySpan<byte> source, int bits)
    {
        for (int x = 0; x < pixels.Length; x++)
            pixels[x] = bits switch
            {
                8 => _colors[source[x]],
                15 => From15(BinaryPrimitives.ReadUInt16LittleEndian(source[(x * 2)..])),
                16 => From16(BinaryPrimitives.ReadUInt16LittleEndian(source[(x * 2)..])),
                24 => source[x * 3] | (uint)source[x * 3 + 1] << 8 | (uint)source[x * 3 + 2] << 16,
                _ => BinaryPrimitives.ReadUInt32LittleEndian(source[(x * 4)..]) & 0xFFFFFF,
            };
    }

    static uint From15(uint c) => Wide5(c >> 10) << 16 | Wide5(c >> 5) << 8 | Wide5(c);
    static uint From16(uint c) => Wide5(c >> 11) << 16 | ((c >> 5 & 63) << 2 | (c >> 9 & 3)) << 8 | Wide5(c);
    static uint Wide5(uint c) => (c & 31) << 3 | (c & 31) >> 2;
}
