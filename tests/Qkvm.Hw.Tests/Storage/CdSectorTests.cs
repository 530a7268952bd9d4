using System.Buffers.Binary;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>Sectors judged by the equations of ECMA-130, section 14 and annex A, not by how they are made.</summary>
public sealed class CdSectorTests
{
    static readonly byte[] s_sector = Make();

    static byte[] Make()
    {
        byte[] user = new byte[2048], sector = new byte[2352];
        new Random(3).NextBytes(user);
        CdSector.Build(sector, user, (12, 34, 56));
        Assert.Equal(user, sector[16..2064]);
        return sector;
    }

    [Fact]
    public void It_begins_with_the_pattern_and_its_time_in_BCD_and_says_mode_1() =>
        Assert.Equal([0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0x12, 0x34, 0x56, 1], s_sector[..16]);

    /// <summary>14.3: bytes 0 to 2067, least significant bit first, are divisible by the polynomial.</summary>
    [Fact]
    public void The_error_detection_code_makes_it_divisible()
    {
        ulong remainder = 0;
        foreach (byte b in s_sector[..2068])
            for (int bit = 0; bit < 8; bit++)
            {
                remainder = remainder << 1 | (uint)(b >> bit & 1);
                if (remainder >> 32 != 0) remainder ^= 0x1_8001_801B;   // x^32 + x^31 + x^16 + x^15 + x^4 + x^3 + x + 1
            }
        Assert.Equal(0u, remainder);
        Assert.Equal(0ul, BinaryPrimitives.ReadUInt64LittleEndian(s_sector.AsSpan(2068)));
    }

    /// <summary>Annex A: each vector's sum, and its sum weighted by falling powers of alpha, are zero.</summary>
    [Theory]
    [InlineData(0)] [InlineData(1)]
    public void The_parities_make_all_vectors_sum_up_to_zero(int half)
    {
        for (int n = 0; n < 43; n++) Check([.. Enumerable.Range(0, 26).Select(m => 43 * m + n)]);
        for (int n = 0; n < 26; n++)
            Check([.. Enumerable.Range(0, 43).Select(m => (44 * m + 43 * n) % 1118), 1118 + n, 1144 + n]);

        void Check(int[] words)
        {
            int sum = 0, weighted = 0;
            for (int i = 0; i < words.Length; i++)
            {
                byte value = s_sector[12 + 2 * words[i] + half];
                sum ^= value;
                weighted ^= Multiply(value, Power(words.Length - 1 - i));
            }
            Assert.Equal((0, 0), (sum, weighted));
        }
    }

    static int Power(int exponent) => exponent == 0 ? 1 : Multiply(Power(exponent - 1), 2);

    /// <summary>In GF(2^8) by x^8 + x^4 + x^3 + x^2 + 1.</summary>
    static int Multiply(int a, int b)
    {
        int product = 0;
        for (int bit = 7; bit >= 0; bit--)
        {
            product <<= 1;
            if ((product & 0x100) != 0) product ^= 0x11D;
            if ((b >> bit & 1) != 0) product ^= a;
        }
        return product;
    }
}
