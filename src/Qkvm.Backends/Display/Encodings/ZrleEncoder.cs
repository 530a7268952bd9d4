using Qkvm.Core.Display;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>Tiles of 64 by 64, each told by its few colours or by runs, through one stream of zlib. Spec: RFC 6143,
/// section 7.7.6.</summary>
sealed class ZrleEncoder(int level) : VncEncoder
{
    public const int ZrleNumber = 16;

    const int TileSize = 64, MaxPacked = 16, MaxPalette = 127;
    const byte RawTile = 0, SolidTile = 1, RunLengths = 128;

    readonly DeflateStream _stream = new(level);
    readonly VncOutput _tiles = new();
    readonly Palette _palette = new();
    readonly uint[] _tile = new uint[TileSize * TileSize];

    public override int Number => ZrleNumber;
    public override int MaxPixels => 1 << 18;                      // bounds what is kept of them

    public override void Encode(VncOutput output, FrameBuffer picture, PixelFormat format, ScreenArea area)
    {
        for (int y = area.Y; y < area.Bottom; y += TileSize)
            for (int x = area.X; x < area.Right; x += TileSize)
            {
                var part = new ScreenArea(x, y, Math.Min(TileSize, area.Right - x),
                    Math.Min(TileSize, area.Bottom - y));
                Copy(picture, part, _tile);
                EncodeTile(_tile.AsSpan(0, part.Pixels), part.Width, format);
            }
        int length = output.Count;
        output.Dword(0);
        _stream.Append(output, _tiles.Pending);
        output.PatchDword(length, output.Count - length - 4);
        _tiles.Clear();
    }

    public override void Dispose() => _stream.Dispose();

    /// <summary>In the way that takes the fewest bytes before they are compressed.</summary>
    void EncodeTile(ReadOnlySpan<uint> tile, int width, PixelFormat format)
    {
        bool hasPalette = _palette.TryFill(tile, MaxPalette);
        if (hasPalette && _palette.Count == 1)
        {
            _tiles.Byte(SolidTile);
            format.ConvertCompact(tile[..1], _tiles);
            return;
        }
        int pixel = format.CompactBytes, raw = tile.Length * pixel;
        (int runs, int runBytes, int singles) = Runs(tile);
        int plainRuns = runs * pixel + runBytes;
        int colors = _palette.Count * pixel;
        int paletteRuns = hasPalette ? colors + runs + runBytes - singles : int.MaxValue;
        int packed = hasPalette && _palette.Count <= MaxPacked
            ? colors + (width * BitsOf(_palette.Count) + 7) / 8 * (tile.Length / width) : int.MaxValue;
        int least = Math.Min(Math.Min(raw, plainRuns), Math.Min(paletteRuns, packed));
        if (least == packed) Pack(tile, width, format);
        else if (least == paletteRuns) SendRuns(tile, format, usesPalette: true);
        else if (least == plainRuns) SendRuns(tile, format, usesPalette: false);
        else
        {
            _tiles.Byte(RawTile);
            format.ConvertCompact(tile, _tiles);
        }
    }

    /// <summary>How many runs of one colour, the bytes of their lengths, and how many are of one pixel.</summary>
    static (int Runs, int LengthBytes, int Singles) Runs(ReadOnlySpan<uint> tile)
    {
        int runs = 0, bytes = 0, singles = 0;
        for (int at = 0, length; at < tile.Length; at += length)
        {
            length = RunAt(tile, at);
            runs++;
            bytes += (length - 1) / 255 + 1;
            if (length == 1) singles++;
        }
        return (runs, bytes, singles);
    }

    static int RunAt(ReadOnlySpan<uint> tile, int at)
    {
        int length = tile[at..].IndexOfAnyExcept(tile[at]);
        return length < 0 ? tile.Length - at : length;
    }

    void SendColors(PixelFormat format) => format.ConvertCompact(_palette.Colors, _tiles);

    void SendRuns(ReadOnlySpan<uint> tile, PixelFormat format, bool usesPalette)
    {
        _tiles.Byte(RunLengths + (usesPalette ? _palette.Count : 0));
        if (usesPalette) SendColors(format);
        for (int at = 0, length; at < tile.Length; at += length)
        {
            length = RunAt(tile, at);
            if (!usesPalette) format.ConvertCompact(tile.Slice(at, 1), _tiles);
            else
            {
                _tiles.Byte(_palette.IndexOf(tile[at]) | (length > 1 ? RunLengths : 0));
                if (length == 1) continue;
            }
            int left = length - 1;
            for (; left >= 255; left -= 255) _tiles.Byte(255);
            _tiles.Byte(left);
        }
    }

    static int BitsOf(int colors) => colors <= 2 ? 1 : colors <= 4 ? 2 : 4;

    void Pack(ReadOnlySpan<uint> tile, int width, PixelFormat format)
    {
        _tiles.Byte(_palette.Count);
        SendColors(format);
        int bits = BitsOf(_palette.Count);
        for (int row = 0; row < tile.Length; row += width)
        {
            int value = 0, filled = 0;
            foreach (uint pixel in tile.Slice(row, width))
            {
                value = value << bits | _palette.IndexOf(pixel);
                filled += bits;
                if (filled < 8) continue;
                _tiles.Byte(value);
                (value, filled) = (0, 0);
            }
            if (filled > 0) _tiles.Byte(value << (8 - filled));
        }
    }
}
