using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>One colour, a few colours by index, or all of them, through one of three streams of zlib. Spec: the RFB
/// protocol's community version, "Tight Encoding".</summary>
/// <remarks>Deviation: no gradient filter. What has more colours than a palette is JPEG where pictures need not be
/// exact.</remarks>
sealed class TightEncoder : VncEncoder
{
    public const int TightNumber = 7, LengthBytes = 3;

    const int Smallest = 12;                                       // bytes that zlib is asked for
    const byte Fill = 0x80, HasFilter = 0x40, PaletteFilter = 1;
    const byte Jpeg = 0x90;
    const int SmallestJpeg = 256;                                  // pixels
    const int FullColorStream = 0, TwoColorStream = 1, PaletteStream = 2;

    readonly DeflateStream[] _streams;
    readonly VncOutput _data = new();
    readonly Palette _palette = new();
    uint[] _pixels = [];
    (int Quality, JpegImage Writer)? _jpeg;

    /// <summary>Of JPEG for 0 to 9, as TightVNC has them.</summary>
    static ReadOnlySpan<byte> Qualities => [15, 29, 41, 42, 62, 77, 79, 86, 92, 100];

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
            if (Quality is { } quality && format.IsTightRgb && pixels.Length >= SmallestJpeg)
            {
                SendJpeg(output, pixels, area, quality);
                return;
            }
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

    void SendJpeg(VncOutput output, ReadOnlySpan<uint> pixels, ScreenArea area, int quality)
    {
        if (_jpeg?.Quality != quality) _jpeg = (quality, new JpegImage(Qualities[quality]));
        output.Byte(Jpeg);
        int length = output.Count;
        output.Take(LengthBytes);
        _jpeg.Value.Writer.Write(output, pixels, area.Width, area.Height);
        PatchLength(output, length);
    }

    /// <summary>Of what stands behind it: seven bits, seven, and eight.</summary>
    internal static void PatchLength(VncOutput output, int at)
    {
        int count = output.Count - at - LengthBytes;
        output.PatchByte(at, count & 0x7F | 0x80);
        output.PatchByte(at + 1, count >> 7 & 0x7F | 0x80);
        output.PatchByte(at + 2, count >> 14);
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
            output.Take(LengthBytes);
            _streams[stream].Append(output, _data.Pending);
            PatchLength(output, length);
        }
        _data.Clear();
    }
}
