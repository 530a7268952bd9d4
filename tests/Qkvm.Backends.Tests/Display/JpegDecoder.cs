using System.Buffers.Binary;

namespace Qkvm.Backends.Tests.Display;

/// <summary>Baseline JPEG by the letter of ITU-T T.81, for three components of which the first may be twice as fine;
/// slow.</summary>
sealed class JpegDecoder
{
    readonly byte[] _file;
    readonly double[][] _quantizers = new double[4][];
    readonly Dictionary<(int Length, int Code), byte>[] _codes = new Dictionary<(int, int), byte>[32];
    readonly (int H, int V, int Table, int Dc, int Ac, double[] Plane, int Stride)[] _components =
        new (int, int, int, int, int, double[], int)[3];
    int _at, _bits, _bitCount, _width, _height;

    JpegDecoder(byte[] file) => _file = file;

    /// <returns>0x00RRGGBB.</returns>
    public static uint[] Decode(byte[] file, int width, int height)
    {
        var decoder = new JpegDecoder(file);
        Assert.Equal(0xFFD8, decoder.Word());
        while (decoder.Segment()) { }
        Assert.Equal((width, height), (decoder._width, decoder._height));
        decoder.Scan();
        Assert.Equal(file.Length, decoder._at);
        return decoder.Pixels();
    }

    int Word()
    {
        _at += 2;
        return BinaryPrimitives.ReadUInt16BigEndian(_file.AsSpan(_at - 2));
    }

    /// <summary>False: the scan begins.</summary>
    bool Segment()
    {
        int marker = Word(), end = _at + Word();
        switch (marker)
        {
            case 0xFFDB:
                int table = _file[_at++];
                _quantizers[table] = [.. _file[_at..(_at + 64)].Select(q => (double)q)];
                break;
            case 0xFFC0:
                Assert.Equal(8, _file[_at++]);
                (_height, _width) = (Word(), Word());
                Assert.Equal(3, _file[_at++]);
                for (int i = 0; i < 3; i++, _at += 3)
                    _components[i] = (_file[_at + 1] >> 4, _file[_at + 1] & 15, _file[_at + 2], 0, 0, [], 0);
                break;
            case 0xFFC4:
                int which = _file[_at++], code = 0, value = _at + 16;
                var codes = _codes[which] = [];
                for (int length = 1; length <= 16; length++, code <<= 1)
                    for (int i = _file[_at + length - 1]; i > 0; i--) codes[(length, code++)] = _file[value++];
                Assert.Equal(end, value);
                break;
            case 0xFFDA:
                Assert.Equal(3, _file[_at++]);
                for (int i = 0; i < 3; i++, _at += 2)
                    (_components[i].Dc, _components[i].Ac) = (_file[_at + 1] >> 4, 0x10 | _file[_at + 1] & 15);
                break;
        }
        _at = end;
        return marker != 0xFFDA;
    }

    void Scan()
    {
        int across = (_width + 15) / 16, down = (_height + 15) / 16;
        var last = new int[3];
        for (int i = 0; i < 3; i++)
        {
            ref var c = ref _components[i];
            (c.Stride, c.Plane) = (across * c.H * 8, new double[across * down * c.H * c.V * 64]);
        }
        for (int unit = 0; unit < across * down; unit++)
            for (int i = 0; i < 3; i++)
            {
                var c = _components[i];
                for (int v = 0; v < c.V; v++)
                    for (int h = 0; h < c.H; h++)
                        Block(i, ref last[i], (unit / across * c.V + v) * 8 * c.Stride + (unit % across * c.H + h) * 8);
            }
        Assert.Equal(0xFFD9, Word());
    }

    static readonly (int X, int Y)[] s_zigZag = [.. Enumerable.Range(0, 64).Select(i => (X: i % 8, Y: i / 8))
        .OrderBy(p => p.X + p.Y).ThenBy(p => (p.X + p.Y) % 2 == 0 ? p.X : p.Y)];

    void Block(int component, ref int last, int target)
    {
        var c = _components[component];
        var values = new double[64];
        last += Signed(Symbol(c.Dc));
        Set(0, last);
        for (int k = 1; k < 64; k++)
        {
            int symbol = Symbol(c.Ac);
            if (symbol == 0) break;
            k += symbol >> 4;
            if (symbol != 0xF0) Set(k, Signed(symbol & 15));
        }
        for (int y = 0; y < 8; y++)
            for (int x = 0; x < 8; x++)
            {
                double sum = 0;
                for (int v = 0; v < 8; v++)
                    for (int u = 0; u < 8; u++)
                        sum += (u == 0 ? Math.Sqrt(0.5) : 1) * (v == 0 ? Math.Sqrt(0.5) : 1) * values[v * 8 + u]
                            * Math.Cos((2 * x + 1) * u * Math.PI / 16) * Math.Cos((2 * y + 1) * v * Math.PI / 16);
                c.Plane[target + y * c.Stride + x] = sum / 4;
            }

        void Set(int k, int value) => values[s_zigZag[k].Y * 8 + s_zigZag[k].X] = value * _quantizers[c.Table][k];
    }

    int Bit()
    {
        if (_bitCount == 0)
        {
            (_bits, _bitCount) = (_file[_at++], 8);
            if (_bits == 0xFF) Assert.Equal(0, _file[_at++]);
        }
        return _bits >> --_bitCount & 1;
    }

    int Symbol(int table)
    {
        for (int length = 1, code = Bit(); ; length++, code = code << 1 | Bit())
            if (_codes[table].TryGetValue((length, code), out byte value)) return value;
    }

    int Signed(int size)
    {
        int value = 0;
        for (int i = 0; i < size; i++) value = value << 1 | Bit();
        return size > 0 && value >> (size - 1) == 0 ? value - (1 << size) + 1 : value;
    }

    uint[] Pixels()
    {
        var pixels = new uint[_width * _height];
        for (int i = 0; i < pixels.Length; i++)
        {
            double y = At(0, i) + 128, b = At(1, i), r = At(2, i);
            pixels[i] = Byte(y + 1.402 * r) << 16 | Byte(y - 0.344136 * b - 0.714136 * r) << 8 | Byte(y + 1.772 * b);
        }
        return pixels;

        double At(int component, int i)
        {
            var c = _components[component];
            return c.Plane[i / _width * c.V / 2 * c.Stride + i % _width * c.H / 2];
        }

        static uint Byte(double value) => (uint)Math.Clamp(Math.Round(value), 0, 255);
    }
}
