using System.Buffers.Binary;
using System.IO.Compression;

namespace Qkvm.Backends.Tests.Display;

/// <summary>The encodings with zlib, by the letter of their descriptions.</summary>
sealed partial class VncViewer
{
    readonly Inflater[] _tight = [new(), new(), new(), new()];
    readonly Inflater _zlib = new(), _zrle = new();

    /// <summary>A stream of zlib that comes in pieces.</summary>
    sealed class Inflater
    {
        readonly MemoryStream _source = new();
        readonly ZLibStream _stream;

        public Inflater() => _stream = new ZLibStream(_source, CompressionMode.Decompress);

        public byte[] Inflate(byte[] piece, int length)
        {
            Feed(piece);
            var data = new byte[length];
            _stream.ReadExactly(data);
            return data;
        }

        public void Feed(byte[] piece)
        {
            _source.SetLength(0);
            _source.Write(piece);
            _source.Position = 0;
        }

        public int Byte()
        {
            int value = _stream.ReadByte();
            return value >= 0 ? value : throw new EndOfStreamException("the piece of zlib's is too short");
        }
    }

    void Zlib(int x, int y, int width, int height)
    {
        byte[] data = _zlib.Inflate(Receive(Dword()), width * height * _bytesPerPixel);
        for (int i = 0; i < width * height; i++) Put(x, y, width, i, Pixel(data.AsSpan(i * _bytesPerPixel)));
    }

    void Put(int x, int y, int width, int index, uint color) =>
        Picture[(y + index / width) * Width + x + index % width] = color;

    // ZRLE

    /// <summary>RFC 6143, section 7.7.5: which of four bytes are sent of a pixel.</summary>
    (int First, int Count) Compact => _bytesPerPixel == 4 && _mask >> 24 == 0 ? (_bigEndian ? 1 : 0, 3)
        : _bytesPerPixel == 4 && (_mask & 0xFF) == 0 ? (_bigEndian ? 0 : 1, 3) : (0, _bytesPerPixel);

    uint CompactPixel()
    {
        Span<byte> bytes = stackalloc byte[4];
        bytes.Clear();
        (int first, int count) = Compact;
        for (int i = 0; i < count; i++) bytes[first + i] = (byte)_zrle.Byte();
        return Pixel(bytes);
    }

    void Zrle(int x, int y, int width, int height)
    {
        _zrle.Feed(Receive(Dword()));
        for (int top = y; top < y + height; top += 64)
            for (int left = x; left < x + width; left += 64)
                ZrleTile(left, top, Math.Min(64, x + width - left), Math.Min(64, y + height - top));
    }

    void ZrleTile(int x, int y, int width, int height)
    {
        int kind = _zrle.Byte(), size = width * height;
        var palette = new uint[kind is 0 or 128 ? 0 : kind & 127];
        for (int i = 0; i < palette.Length; i++) palette[i] = CompactPixel();
        if (kind == 1) Fill(x, y, width, height, palette[0]);
        else if (kind == 0) for (int i = 0; i < size; i++) Put(x, y, width, i, CompactPixel());
        else if (kind < 128) ZrlePacked(x, y, width, height, palette);
        else
            for (int i = 0; i < size;)
            {
                int index = kind == 128 ? 128 : _zrle.Byte();
                uint color = kind == 128 ? CompactPixel() : palette[index & 127];
                int length = 1;
                if ((index & 128) != 0)
                    for (int more = 255; more == 255; length += more) more = _zrle.Byte();
                for (; length > 0; length--) Put(x, y, width, i++, color);
            }
    }

    void ZrlePacked(int x, int y, int width, int height, uint[] palette)
    {
        Assert.InRange(palette.Length, 2, 16);
        int bits = palette.Length == 2 ? 1 : palette.Length <= 4 ? 2 : 4;
        for (int row = 0; row < height; row++)
            for (int column = 0, left = 0, value = 0; column < width; column++, left -= bits)
            {
                if (left == 0) (value, left) = (_zrle.Byte(), 8);
                Picture[(y + row) * Width + x + column] = palette[value >> (left - bits) & (1 << bits) - 1];
            }
    }

    // Tight

    bool HasTightPixels => _bytesPerPixel == 4 && _channels is ((255, _), (255, _), (255, _));
    int TightBytes => HasTightPixels ? 3 : _bytesPerPixel;

    uint TightPixel(ReadOnlySpan<byte> data) => !HasTightPixels ? Pixel(data)
        : (uint)data[0] << _channels.Red.Shift | (uint)data[1] << _channels.Green.Shift
            | (uint)data[2] << _channels.Blue.Shift;

    byte[] TightData(int stream, int length)
    {
        return length < 12 ? Receive(length) : _tight[stream].Inflate(Receive(TightLength()), length);
    }

    int TightLength()
    {
        int packed = 0;
        for (int shift = 0, more = 128; more != 0 && shift < 22; shift += 7)
        {
            int part = Receive(1)[0];
            more = shift == 14 ? 0 : part & 128;
            packed |= (shift == 14 ? part : part & 127) << shift;
        }
        return packed;
    }

    /// <summary>How many rectangles came as such.</summary>
    public int JpegCount { get; private set; }

    /// <summary>One colour, or PNG of eight bits a colour, of which each row has no filter or "up".</summary>
    void TightPng(int x, int y, int width, int height)
    {
        int control = Receive(1)[0];
        if (control == 0x80) { Fill(x, y, width, height, TightPixel(Receive(TightBytes))); return; }
        Assert.Equal(0xA0, control);
        byte[] file = Receive(TightLength()), above = new byte[width * 3];
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G', 13, 10, 26, 10], file[..8]);
        Assert.Equal((width, height), (BinaryPrimitives.ReadInt32BigEndian(file.AsSpan(16)),
            BinaryPrimitives.ReadInt32BigEndian(file.AsSpan(20))));
        int length = BinaryPrimitives.ReadInt32BigEndian(file.AsSpan(33));
        Assert.Equal("IDAT"u8.ToArray(), file[37..41]);
        using var data = new ZLibStream(new MemoryStream(file, 41, length), CompressionMode.Decompress);
        for (int row = 0; row < height; row++)
        {
            int filter = data.ReadByte();
            Assert.Contains(filter, (int[])[0, 2]);
            var line = new byte[width * 3];
            data.ReadExactly(line);
            for (int i = 0; i < line.Length && filter == 2; i++) line[i] += above[i];
            for (int i = 0; i < width; i++)
                Picture[(y + row) * Width + x + i] = (uint)(line[i * 3] << 16 | line[i * 3 + 1] << 8 | line[i * 3 + 2]);
            above = line;
        }
    }

    void Tight(int x, int y, int width, int height)
    {
        Assert.InRange(width, 1, 2048);
        int control = Receive(1)[0], stream = control >> 4 & 3, size = width * height;
        Assert.Equal(0, control & 15);                             // no stream begins anew
        if (control >> 4 == 8) { Fill(x, y, width, height, TightPixel(Receive(TightBytes))); return; }
        if (control >> 4 == 9)
        {
            JpegCount++;
            uint[] pixels = JpegDecoder.Decode(Receive(TightLength()), width, height);
            for (int i = 0; i < size; i++) Put(x, y, width, i, pixels[i]);
            return;
        }
        Assert.InRange(control >> 4, 0, 7);
        int filter = (control & 64) != 0 ? Receive(1)[0] : 0;
        if (filter == 0)
        {
            byte[] data = TightData(stream, size * TightBytes);
            for (int i = 0; i < size; i++) Put(x, y, width, i, TightPixel(data.AsSpan(i * TightBytes)));
            return;
        }
        Assert.Equal(1, filter);
        byte[] colors = Receive((Receive(1)[0] + 1) * TightBytes);
        uint Color(int index) => TightPixel(colors.AsSpan(index * TightBytes));
        if (colors.Length > 2 * TightBytes)
        {
            byte[] data = TightData(stream, size);
            for (int i = 0; i < size; i++) Put(x, y, width, i, Color(data[i]));
            return;
        }
        int stride = (width + 7) / 8;
        byte[] rows = TightData(stream, stride * height);
        for (int i = 0; i < size; i++)
            Put(x, y, width, i, Color(rows[i / width * stride + i % width / 8] >> (7 - i % width % 8) & 1));
    }
}
