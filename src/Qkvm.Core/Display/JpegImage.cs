using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;

namespace Qkvm.Core.Display;

/// <summary>A picture as JPEG: baseline, three components, colours at half the resolution. ITU-T T.81; JFIF
/// 1.02.</summary>
/// <remarks>All components use the example tables of Annex K for luminance, of which the quantization table is scaled
/// by the quality.</remarks>
public sealed class JpegImage
{
    const int BlockSize = 8, Block = 64, UnitSize = 16;            // a unit: four blocks of Y, one of Cb, one of Cr
    const int EndOfBlock = 0x00, SixteenZeros = 0xF0;

    /// <summary>Where the n-th coefficient stands, Figure A.6.</summary>
    static ReadOnlySpan<byte> ZigZag =>
    [
        0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14,
        21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60,
        61, 54, 47, 55, 62, 63,
    ];

    /// <summary>Table K.1.</summary>
    static ReadOnlySpan<byte> Luminance =>
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
        51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
        120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ];

    // Tables K.3 and K.5: how many codes there are of each length
    static ReadOnlySpan<byte> DcLengths => [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
    static ReadOnlySpan<byte> AcLengths => [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125];

    /// <summary>Of K.5, those that do not come in their order; the others follow in it.</summary>
    static ReadOnlySpan<byte> AcFrequent =>
    [
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
        0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72,
        0x82, 0x09, 0x0A,
    ];

    static readonly byte[] s_dcValues = [.. Enumerable.Range(0, 12).Select(i => (byte)i)];
    static readonly byte[] s_acValues = AcValues();
    static readonly (ushort Code, byte Length)[] s_dc = Codes(DcLengths, s_dcValues),
        s_ac = Codes(AcLengths, s_acValues);

    /// <summary>cos(k pi / 16), and for k = 0 what makes the transform orthogonal. A.3.3.</summary>
    static readonly float[] s_cosines = Cosines();

    readonly byte[] _quantizers = new byte[Block];
    readonly float[] _inverse = new float[Block];
    readonly float[] _unit = new float[6 * Block], _half = new float[Block];
    readonly int[] _last = new int[3];
    uint _bits;
    int _bitCount;

    /// <param name="quality">1 to 100.</param>
    public JpegImage(int quality)
    {
        int scale = quality < 50 ? 5000 / Math.Max(quality, 1) : 200 - Math.Min(quality, 100) * 2;
        for (int i = 0; i < Block; i++)
        {
            _quantizers[i] = (byte)Math.Clamp((Luminance[i] * scale + 50) / 100, 1, 255);
            _inverse[i] = 1f / _quantizers[i];
        }
    }

    /// <summary>Appends the file.</summary>
    /// <param name="pixels">0x00RRGGBB, rows without gaps.</param>
    /// <param name="width">1 to 65535, as the height.</param>
    public void Write(IBufferWriter<byte> target, ReadOnlySpan<uint> pixels, int width, int height)
    {
        WriteHeader(target, width, height);
        Array.Clear(_last);
        (_bits, _bitCount) = (0, 0);
        for (int y = 0; y < height; y += UnitSize)
            for (int x = 0; x < width; x += UnitSize)
            {
                Load(pixels, width, height, x, y);
                for (int block = 0; block < 6; block++)
                    WriteBlock(target, _unit.AsSpan(block * Block, Block), ref _last[Math.Max(block - 3, 0)]);
            }
        if (_bitCount > 0) Put(target, 0x7F, 7);                   // F.1.2.3: ones up to the byte's end
        Bytes(target, 0xFF, 0xD9);
    }

    void WriteHeader(IBufferWriter<byte> target, int width, int height)
    {
        Span<byte> size = stackalloc byte[4];
        BinaryPrimitives.WriteUInt16BigEndian(size, (ushort)height);
        BinaryPrimitives.WriteUInt16BigEndian(size[2..], (ushort)width);
        Bytes(target, 0xFF, 0xD8, 0xFF, 0xE0, 0, 16, (byte)'J', (byte)'F', (byte)'I', (byte)'F', 0, 1, 2, 0, 0, 1, 0, 1,
            0, 0);
        Bytes(target, 0xFF, 0xDB, 0, 67, 0);
        foreach (byte place in ZigZag) Bytes(target, _quantizers[place]);
        Bytes(target, 0xFF, 0xC0, 0, 17, 8);
        Bytes(target, size);
        Bytes(target, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0);
        WriteTable(target, 0x00, DcLengths, s_dcValues);
        WriteTable(target, 0x10, AcLengths, s_acValues);
        Bytes(target, 0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0);

        static void WriteTable(IBufferWriter<byte> target, byte which, ReadOnlySpan<byte> lengths, byte[] values)
        {
            int length = 2 + 1 + 16 + values.Length;
            Bytes(target, 0xFF, 0xC4, (byte)(length >> 8), (byte)length, which);
            Bytes(target, lengths);
            Bytes(target, values);
        }
    }

    static void Bytes(IBufferWriter<byte> target, params ReadOnlySpan<byte> bytes) => target.Write<byte>(bytes);

    /// <summary>A unit of 16 by 16; at the picture's edges the last pixels go on.</summary>
    void Load(ReadOnlySpan<uint> pixels, int width, int height, int left, int top)
    {
        Span<float> blue = _unit.AsSpan(4 * Block, Block), red = _unit.AsSpan(5 * Block, Block);
        blue.Clear();
        red.Clear();
        for (int y = 0; y < UnitSize; y++)
        {
            ReadOnlySpan<uint> row = pixels.Slice(Math.Min(top + y, height - 1) * width, width);
            for (int x = 0; x < UnitSize; x++)
            {
                uint pixel = row[Math.Min(left + x, width - 1)];
                float r = pixel >> 16 & 255, g = pixel >> 8 & 255, b = pixel & 255;
                int block = (y / BlockSize * 2 + x / BlockSize) * Block, at = y % BlockSize * BlockSize + x % BlockSize;
                _unit[block + at] = 0.299f * r + 0.587f * g + 0.114f * b - 128;
                int half = y / 2 * BlockSize + x / 2;              // the mean of four
                blue[half] += (-0.168736f * r - 0.331264f * g + 0.5f * b) / 4;
                red[half] += (0.5f * r - 0.418688f * g - 0.081312f * b) / 4;
            }
        }
    }

    void WriteBlock(IBufferWriter<byte> target, Span<float> block, ref int last)
    {
        Transform(block);
        int dc = (int)MathF.Round(block[0] * _inverse[0]), difference = dc - last, zeros = 0;
        last = dc;
        Code(target, s_dc[SizeOf(difference)], difference);
        foreach (byte place in ZigZag[1..])
        {
            int value = (int)MathF.Round(block[place] * _inverse[place]);
            if (value == 0) { zeros++; continue; }
            for (; zeros > 15; zeros -= 16) Code(target, s_ac[SixteenZeros], 0);
            Code(target, s_ac[zeros << 4 | SizeOf(value)], value);
            zeros = 0;
        }
        if (zeros > 0) Code(target, s_ac[EndOfBlock], 0);
    }

    /// <summary>The number of bits of a magnitude, Table F.1.</summary>
    static int SizeOf(int value) => 32 - BitOperations.LeadingZeroCount((uint)Math.Abs(value));

    void Code(IBufferWriter<byte> target, (ushort Code, byte Length) code, int value)
    {
        Put(target, code.Code, code.Length);
        int size = SizeOf(value);
        if (size > 0) Put(target, (uint)(value < 0 ? value - 1 : value) & (1u << size) - 1, size);
    }

    void Put(IBufferWriter<byte> target, uint bits, int count)
    {
        (_bits, _bitCount) = (_bits << count | bits, _bitCount + count);
        Span<byte> span = target.GetSpan(8);
        int written = 0;
        for (; _bitCount >= 8; _bitCount -= 8)
        {
            byte one = (byte)(_bits >> (_bitCount - 8));
            span[written++] = one;
            if (one == 0xFF) span[written++] = 0;                  // no marker
        }
        target.Advance(written);
    }

    /// <summary>The forward transform of rows, then of columns. A.3.3.</summary>
    void Transform(Span<float> block)
    {
        for (int row = 0; row < BlockSize; row++) Line(block.Slice(row * BlockSize, BlockSize), _half.AsSpan(row));
        for (int row = 0; row < BlockSize; row++) Line(_half.AsSpan(row * BlockSize, BlockSize), block[row..]);

        // Even and odd coefficients are made of sums and differences of what lies opposite. The target is a column.
        static void Line(ReadOnlySpan<float> v, Span<float> column)
        {
            float s0 = v[0] + v[7], s1 = v[1] + v[6], s2 = v[2] + v[5], s3 = v[3] + v[4];
            float d0 = v[0] - v[7], d1 = v[1] - v[6], d2 = v[2] - v[5], d3 = v[3] - v[4];
            ReadOnlySpan<float> c = s_cosines;
            column[0] = (s0 + s1 + s2 + s3) * c[0];
            column[16] = (s0 - s3) * c[2] + (s1 - s2) * c[6];
            column[32] = (s0 - s1 - s2 + s3) * c[4];
            column[48] = (s0 - s3) * c[6] - (s1 - s2) * c[2];
            column[8] = d0 * c[1] + d1 * c[3] + d2 * c[5] + d3 * c[7];
            column[24] = d0 * c[3] - d1 * c[7] - d2 * c[1] - d3 * c[5];
            column[40] = d0 * c[5] - d1 * c[1] + d2 * c[7] + d3 * c[3];
            column[56] = d0 * c[7] - d1 * c[5] + d2 * c[3] - d3 * c[1];
        }
    }

    static float[] Cosines()
    {
        var cosines = new float[8];
        for (int k = 0; k < 8; k++) cosines[k] = (float)(Math.Cos(k * Math.PI / 16) / 2);
        cosines[0] = (float)Math.Sqrt(1.0 / 8);
        return cosines;
    }

    static byte[] AcValues()
    {
        var values = new List<byte>(AcFrequent.ToArray());
        for (int run = 0; run < 16; run++)
            for (int size = 1; size <= 10; size++)
                if (!values.Contains((byte)(run << 4 | size))) values.Add((byte)(run << 4 | size));
        return [.. values];
    }

    /// <summary>By value. Annex C.</summary>
    static (ushort Code, byte Length)[] Codes(ReadOnlySpan<byte> lengths, byte[] values)
    {
        var codes = new (ushort, byte)[256];
        int code = 0, next = 0;
        for (int length = 1; length <= 16; length++, code <<= 1)
            for (int i = 0; i < lengths[length - 1]; i++) codes[values[next++]] = ((ushort)code++, (byte)length);
        return codes;
    }
}
