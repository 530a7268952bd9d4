using Qkvm.Core.Display;
using Qkvm.Host;

namespace Qkvm.Hw.Display;

/// <summary>Turns registers and video memory into a picture: text, planar, CGA and packed pixels of VGA, and the linear
/// modes of VBE. Reads only. Spec: as <see cref="VgaRegisters"/>, "CRT Controller" and "Attribute
/// Controller".</summary>
/// <remarks>The picture has the dots of the screen: a low resolution is doubled as the chip doubles it. Deviations:
/// nothing blinks, no panning by pixels or bytes, no overscan; text ignores the split screen.</remarks>
sealed class VgaPainter(VgaRegisters registers, BochsDispi dispi, GuestRam ram)
{
    const int MaxPixels = 1 << 24;                                 // of a VBE picture: what is below is left out
    const int PlaneMask = 0x3FFFC;                                 // four planes of 64 KiB; addresses wrap
    const byte GraphicsMode = 1;                                   // Miscellaneous
    const byte EightDots = 1, HalfClock = 8;                       // Clocking Mode
    const byte DoubleScan = 0x80;                                  // Maximum Scan Line
    const byte RowScanAsBit13 = 1, RowScanAsBit14 = 2, ByteMode = 0x40; // CRTC Mode Control, the first two inverted
    const byte CursorOff = 0x20;
    const byte Blinking = 8, LineGraphics = 4, PaletteBits5And4 = 0x80; // Attribute Mode Control

    readonly uint[] _colors = new uint[256];

    public void Paint(FrameBuffer target)
    {
        if (!registers.IsScreenOn) Blank(target);
        else if (dispi.IsEnabled) PaintLinear(target);
        else if ((registers.Graphics[VgaRegisters.Miscellaneous] & GraphicsMode) != 0) PaintGraphics(target);
        else PaintText(target);
    }

    /// <summary>The characters of a text mode; false in graphics.</summary>
    public bool PaintText(TextScreen target)
    {
        if (dispi.IsEnabled || (registers.Graphics[VgaRegisters.Miscellaneous] & GraphicsMode) != 0) return false;
        AttributeColors();
        (int columns, int rows, int pitch, int cursor) = (Columns, TextRows, TextPitch, CursorCell);
        target.Resize(columns, rows);
        (target.ShowsGlyphs, target.Cursor) = (true, null);
        bool isOn = registers.IsScreenOn;
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++)
            {
                int cell = StartAddress + row * pitch + column;
                uint planes = isOn ? Planes(cell * 4) : 0;
                (uint ink, uint paper) = Colors((byte)(planes >> 8));
                target.Row(row)[column] = new TextCell((char)(byte)planes, ink, isOn ? paper : 0);
                if (isOn && cell == cursor) target.Cursor = (column, row);
            }
        return true;
    }

    static void Blank(FrameBuffer target)
    {
        if (target.Width == 0) target.Resize(720, 400);
        target.Pixels.Clear();
    }

    byte[] Crtc => registers.Crtc;
    int Columns => Crtc[VgaRegisters.HorizontalDisplayEnd] + 1;
    int Lines =>
        1 + (Crtc[VgaRegisters.VerticalDisplayEnd] | (Crtc[VgaRegisters.Overflow] & 2) << 7
        | (Crtc[VgaRegisters.Overflow] & 0x40) << 3);
    int StartAddress => Crtc[VgaRegisters.StartAddressHigh] << 8 | Crtc[VgaRegisters.StartAddressLow];
    int RowHeight => (Crtc[VgaRegisters.MaximumScanLine] & 31) + 1;
    int LineScale => (Crtc[VgaRegisters.MaximumScanLine] & DoubleScan) != 0 ? 2 : 1;
    int DotScale => (registers.Sequencer[VgaRegisters.ClockingMode] & HalfClock) != 0 ? 2 : 1;

    int TextRows => Math.Max(1, Lines / LineScale / RowHeight);
    int TextPitch => Crtc[VgaRegisters.Offset] * 2;

    /// <summary>Where the cursor is; -1 for nowhere.</summary>
    int CursorCell => (Crtc[VgaRegisters.CursorStart] & CursorOff) != 0 ? -1
        : Crtc[VgaRegisters.CursorHigh] << 8 | Crtc[VgaRegisters.CursorLow];

    /// <summary>Of a character's attribute.</summary>
    (uint Ink, uint Paper) Colors(byte attribute)
    {
        bool blinks = (registers.Attribute[VgaRegisters.ModeControl] & Blinking) != 0;
        return (_colors[attribute & 15], _colors[attribute >> 4 & (blinks ? 7 : 15)]);
    }

    /// <summary>The scan line after which the picture starts again from address 0 (split screen).</summary>
    int SplitLine =>
        Crtc[VgaRegisters.LineCompare] | (Crtc[VgaRegisters.Overflow] & 0x10) << 4
        | (Crtc[VgaRegisters.MaximumScanLine] & 0x40) << 3;

    /// <summary>A byte of each plane.</summary>
    uint Planes(int place) => (uint)ram.Read((ulong)(place & PlaneMask), 4);

    /// <summary>The sixteen colours of the attribute controller.</summary>
    void AttributeColors()
    {
        byte mode = registers.Attribute[VgaRegisters.ModeControl],
            select = registers.Attribute[VgaRegisters.ColorSelect];
        for (int i = 0; i < 16; i++)
        {
            int index = registers.Attribute[i];
            index = (mode & PaletteBits5And4) != 0 ? (select & 15) << 4 | index & 15 : (select & 12) << 4 | index & 63;
            _colors[i] = registers.Color(index);
        }
    }

    void AllColors()
    {
        for (int i = 0; i < 256; i++) _colors[i] = registers.Color(i);
    }

    void PaintText(FrameBuffer target)
    {
        AttributeColors();
        int columns = Columns, cellHeight = RowHeight, rows = TextRows, pitch = TextPitch, cursor = CursorCell;
        int cellWidth = (registers.Sequencer[VgaRegisters.ClockingMode] & EightDots) != 0 ? 8 : 9;
        target.Resize(columns * cellWidth * DotScale, rows * cellHeight * LineScale);
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++)
            {
                int cell = StartAddress + row * pitch + column;
                uint planes = Planes(cell * 4);
                Cell(target, column * cellWidth, row * cellHeight, cellWidth, (byte)planes, (byte)(planes >> 8),
                    cell == cursor);
            }
        for (int y = target.Height - 1; y >= 0; y--) Widen(target, y, columns * cellWidth);
    }

    void Cell(FrameBuffer target, int left, int top, int width, byte code, byte attribute, bool isCursor)
    {
        // "Character Map Select": bit 3 of the attribute chooses between two fonts of 8 KiB in plane 2.
        byte map = registers.Sequencer[VgaRegisters.CharacterMap], mode = registers.Attribute[VgaRegisters.ModeControl];
        int a = (map >> 2 & 3) | (map >> 5 & 1) << 2, b = (map & 3) | (map >> 4 & 1) << 2;
        int glyph = FontOffset((attribute & 8) != 0 ? a : b) + code * 32;
        (uint ink, uint paper) = Colors(attribute);
        bool extend = (mode & LineGraphics) != 0 && code is >= 0xC0 and <= 0xDF;
        int firstLine = Crtc[VgaRegisters.CursorStart] & 31, lastLine = Crtc[VgaRegisters.CursorEnd] & 31;
        for (int y = 0; y < RowHeight; y++)
        {
            int bits = (byte)(Planes((glyph + y) * 4) >> 16) << 1;
            if (extend) bits |= bits >> 1 & 1;
            if (isCursor && y >= firstLine && y <= lastLine) bits = 0x1FF;
            Span<uint> pixels = target.Row(top + y).Slice(left, width);
            for (int x = 0; x < width; x++) pixels[x] = (bits & 0x100 >> x) != 0 ? ink : paper;
        }
    }

    /// <summary>Maps 0 to 3 lie 16 KiB apart, 4 to 7 in the gaps.</summary>
    static int FontOffset(int map) => (map & 3) * 0x4000 + (map >> 2) * 0x2000;

    /// <summary>Brings a text line that was painted small at the top left to the dots of the screen, from below
    /// upwards.</summary>
    void Widen(FrameBuffer target, int y, int width)
    {
        if (LineScale == 2) target.Row(y / 2)[..width].CopyTo(target.Row(y));
        if (DotScale == 2) Double(target.Row(y));
    }

    /// <summary>Spreads the left half over the line.</summary>
    static void Double(Span<uint> pixels)
    {
        for (int x = pixels.Length - 1; x >= 0; x--) pixels[x] = pixels[x / 2];
    }

    void PaintGraphics(FrameBuffer target)
    {
        int shift = registers.Graphics[VgaRegisters.GraphicsMode] >> 5 & 3;
        bool packed = (shift & 2) != 0, halved = packed || DotScale == 2; // packed pixels take two dots each
        target.Resize(Columns * 8 * (packed ? 1 : DotScale), Lines);
        if (packed) AllColors();
        else AttributeColors();
        int split = SplitLine;
        for (int y = 0; y < target.Height; y++)
        {
            Span<uint> row = target.Row(y), pixels = halved ? row[..(row.Length / 2)] : row;
            int at = y > split ? LineAddress(y - split - 1, 0) : LineAddress(y, StartAddress * 4);
            if (packed) PackedRow(pixels, at);
            else if (shift == 1) CgaRow(pixels, at);
            else PlanarRow(pixels, at);
            if (halved) Double(row);
        }
    }

    /// <summary>Where a scan line begins. CGA's and Hercules' lines lie apart: address bits 13 and 14 come from the row
    /// scan counter; in word mode odd and even bytes share an address here, which halves the distance.</summary>
    int LineAddress(int y, int start)
    {
        y /= LineScale;
        int rowScan = y % RowHeight, at = start + y / RowHeight * Crtc[VgaRegisters.Offset] * 8;
        byte mode = Crtc[VgaRegisters.CrtcMode];
        int bit13 = (mode & ByteMode) != 0 ? 15 : 14;
        if ((mode & RowScanAsBit13) == 0) at = at & ~(1 << bit13) | (rowScan & 1) << bit13;
        if ((mode & RowScanAsBit14) == 0) at = at & ~(2 << bit13) | (rowScan >> 1 & 1) << (bit13 + 1);
        return at;
    }

    void PackedRow(Span<uint> pixels, int at)
    {
        uint four = 0;
        for (int x = 0; x < pixels.Length; x++, four >>= 8)
        {
            if (x % 4 == 0) four = Planes(at + x);
            pixels[x] = _colors[(byte)four];
        }
    }

    void PlanarRow(Span<uint> pixels, int at)
    {
        byte enabled = registers.Attribute[VgaRegisters.ColorPlaneEnable];
        uint planes = 0;
        for (int x = 0; x < pixels.Length; x++)
        {
            if (x % 8 == 0) planes = Planes(at + x / 2);
            uint bits = planes >> (7 - x % 8) & 0x01010101;
            pixels[x] = _colors[(bits | bits >> 7 | bits >> 14 | bits >> 21) & enabled & 15];
        }
    }

    /// <summary>Two bits a pixel from planes 0 and 1, a byte of each in turn; planes 2 and 3 add the upper
    /// two.</summary>
    void CgaRow(Span<uint> pixels, int at)
    {
        byte enabled = registers.Attribute[VgaRegisters.ColorPlaneEnable];
        uint planes = 0;
        for (int x = 0; x < pixels.Length; x++)
        {
            if (x % 8 == 0) planes = Planes(at + x / 2);
            uint bits = planes >> (x % 8 / 4 * 8 + 6 - x % 4 * 2);
            pixels[x] = _colors[(bits & 3 | bits >> 14 & 12) & enabled & 15];
        }
    }

    void PaintLinear(FrameBuffer target)
    {
        int bits = dispi.Bits;
        target.Resize(dispi.Width, Math.Min(dispi.Height, MaxPixels / dispi.Width));
        if (bits == 4) AttributeColors();
        else if (bits == 8) AllColors();
        for (int y = 0; y < target.Height; y++)
        {
            ulong at = dispi.Start + (ulong)y * dispi.Pitch;
            if (bits == 4) LinearPlanes(target.Row(y), at);
            else LinearRow(target.Row(y), ram.Span(at, target.Width * ((bits + 7) / 8)), bits);
        }
    }

    void LinearPlanes(Span<uint> pixels, ulong at)
    {
        byte enabled = registers.Attribute[VgaRegisters.ColorPlaneEnable];
        uint planes = 0;
        for (int x = 0; x < pixels.Length; x++)
        {
            if (x % 8 == 0) planes = (uint)ram.Read(at + (ulong)x / 2, 4);
            uint bits = planes >> (7 - x % 8) & 0x01010101;
            pixels[x] = _colors[(bits | bits >> 7 | bits >> 14 | bits >> 21) & enabled & 15];
        }
    }

    void LinearRow(Span<uint> pixels, ReadOnlySpan<byte> source, int bits)
    {
        if (bits != 8) PackedPixels.Unpack(pixels, source, bits);
        else
            for (int x = 0; x < pixels.Length; x++) pixels[x] = _colors[source[x]];
    }
}
