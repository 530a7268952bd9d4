using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>One colour, a few colours by index, or all of them, through one of three streams of zlib. Spec: the RFB
/// protocol's community version, "Tight Encoding".</summary>
/// <remarks>Deviations: no gradient filter, no JPEG: every picture is exact.</remarks>
sealed class TightEncoder : VncEncoder
{
    public const int TightNumber = 7;

    const int Smallest = 12;                                       // bytes that zlib is asked for
    const byte Fill = 0x80, HasFilter = 0x40, PaletteFilter = 1;
    const int FullColorStream = 0, TwoColorStream = 1, PaletteStream = 2;

    readonly DeflateStream[] _streams;
    readonly VncOutput _data = new();
    readonly Palette _palette = new();
    uint[] _pixels = [];

    /// <param name="level">0 to 9, deflate's own.</param>
    public TightEncoder(int level) => _streams = [new(level), new(level), new(level)];

    public override int Number => TightNumber;

    /// <summary>A length has 22 bits, and viewers expect no more than this.</summary>
    public override int MaxPixels => 1 << 16;

    public override int MaxWidth => 2048;

    public override void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area)
    {
        if (_pixels.Length < area.Pixels) _pixels = new uint[area.Pixels];
        Span<uint> pixels = _pixels.AsSpan(0, area.Pixels);
        Copy(picture, area, pixels);
        int limit = Math.Clamp(area.Pixels / 4, 2, Palette.Most);  // more would cost more than they save
        if (!_palette.TryFill(pixels, limit))
        {
            output.Byte(FullColorStream << 4);
            format.ConvertTight(pixels, _data);
            SendData(output, FullColorStream);
        }
        else if (_palette.Count == 1)
        {
            output.Byte(Fill);
            format.ConvertTight(pixels[..1], output);
        }
        else SendByIndex(output, format, pixels, area.Width);
    }

    public override void Dispose()
    {
        foreach (DeflateStream stream in _streams) stream.Dispose();
    }

    void SendByIndex(VncOutput output, PixelFormat format, ReadOnlySpan<uint> pixels, int width)
    {
        int stream = _palette.Count == 2 ? TwoColorStream : PaletteStream;
        output.Byte(stream << 4 | HasFilter);
        output.Byte(PaletteFilter);
        output.Byte(_palette.Count - 1);
        format.ConvertTight(_palette.Colors, output);
        if (stream == TwoColorStream)
            for (int row = 0; row < pixels.Length; row += width) PackRow(pixels.Slice(row, width));
        else
        {
            Span<byte> target = _data.Take(pixels.Length);
            for (int i = 0; i < pixels.Length; i++) target[i] = (byte)_palette.IndexOf(pixels[i]);
        }
        SendData(output, stream);
    }

    /// <summary>A bit a pixel, the leftmost first.</summary>
    void PackRow(ReadOnlySpan<uint> row)
    {
        uint first = _palette.Colors[0];
        Span<byte> target = _data.Take((row.Length + 7) / 8);
        target.Clear();
        for (int x = 0; x < row.Length; x++)
            if (row[x] != first) target[x / 8] |= (byte)(0x80 >> x % 8);
    }

    void SendData(VncOutput output, int stream)
    {
        if (_data.Count < Smallest) output.Bytes(_data.Pending);
        else
        {
            int length = output.Count;
            output.Take(3);
            _streams[stream].Append(output, _data.Pending);
            int count = output.Count - length - 3;
            output.PatchByte(length, count & 0x7F | 0x80);         // seven bits, seven, and eight
            output.PatchByte(length + 1, count >> 7 & 0x7F | 0x80);
            output.PatchByte(length + 2, count >> 14);
        }
        _data.Clear();
    }
}
