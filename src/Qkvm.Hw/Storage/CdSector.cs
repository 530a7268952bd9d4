using System.Buffers.Binary;

namespace Qkvm.Hw.Storage;

/// <summary>What of a sector READ CD asks for: byte 9 of the packet. MMC-3 (T10/1363-D), "READ CD command".</summary>
[Flags]
public enum CdParts
    : byte { None = 0, ErrorCodes = 0x08, UserData = 0x10, Header = 0x20, SubHeader = 0x40, Sync = 0x80 }

/// <summary>A sector of 2352 bytes in mode 1, as it is on the disc, made from its user data. Spec: ECMA-130, section 14
/// and annex A.</summary>
public static class CdSector
{
    public const int Length = 2352, UserLength = 2048;

    const int HeaderAt = 12, UserAt = 16, EdcAt = UserAt + UserLength, EccFrom = HeaderAt;
    const byte Mode1 = 1;
    // (x^16 + x^15 + x^2 + 1)(x^16 + x^2 + x + 1), reflected
    const uint EdcPolynomial = 0xD801_8001;
    const byte InverseOf3 = 0xF4;                                  // in GF(2^8) by x^8 + x^4 + x^3 + x^2 + 1

    /// <summary>Bytes of the parts, or -1 where they do not lie side by side. Mode 1 has no subheader.</summary>
    public static int LengthOf(CdParts parts) => (parts & ~CdParts.SubHeader) switch
    {
        CdParts.None => 0,
        CdParts.UserData => UserLength,
        CdParts.UserData | CdParts.ErrorCodes => Length - UserAt,
        CdParts.Header => UserAt - HeaderAt,
        CdParts.Header | CdParts.UserData => EdcAt - HeaderAt,
        CdParts.Header | CdParts.UserData | CdParts.ErrorCodes => Length - HeaderAt,
        CdParts.Sync => HeaderAt,
        CdParts.Sync | CdParts.Header => UserAt,
        CdParts.Sync | CdParts.Header | CdParts.UserData => EdcAt,
        CdParts.Sync | CdParts.Header | CdParts.UserData | CdParts.ErrorCodes => Length,
        _ => -1,
    };

    /// <summary>The bytes that <see cref="LengthOf"/> counts, out of a whole sector.</summary>
    public static ReadOnlySpan<byte> Select(ReadOnlySpan<byte> sector, CdParts parts) =>
        sector.Slice((parts & CdParts.Sync) != 0 ? 0 : (parts & CdParts.Header) != 0 ? HeaderAt
            : UserAt, LengthOf(parts));

    public static void Build(Span<byte> sector, ReadOnlySpan<byte> userData,
        (byte Minutes, byte Seconds, byte Frames) time)
    {
        sector[0] = sector[11] = 0;                                // 14.1: the synchronization pattern
        sector[1..11].Fill(0xFF);
        (sector[12], sector[13], sector[14], sector[15]) =
            (Bcd(time.Minutes), Bcd(time.Seconds), Bcd(time.Frames), Mode1);
        userData[..UserLength].CopyTo(sector[UserAt..]);
        BinaryPrimitives.WriteUInt32LittleEndian(sector[EdcAt..], Edc(sector[..EdcAt]));
        sector.Slice(EdcAt + 4, 8).Clear();
        AddParity(sector);
    }

    static byte Bcd(byte value) => (byte)(value / 10 << 4 | value % 10);

    static uint Edc(ReadOnlySpan<byte> bytes)
    {
        uint edc = 0;
        foreach (byte b in bytes)
        {
            edc ^= b;
            for (int bit = 0; bit < 8; bit++) edc = edc >> 1 ^ ((edc & 1) != 0 ? EdcPolynomial : 0);
        }
        return edc;
    }

    /// <summary>Annex A: the bytes from the header on are words, their halves two codes of their own. P runs down 43
    /// columns of 24 words, Q along 26 diagonals of 43.</summary>
    static void AddParity(Span<byte> sector)
    {
        const int Columns = 43, Rows = 24, Diagonals = 26, Words = Columns * (Rows + 2);
        for (int half = 0; half < 2; half++)
        {
            Span<byte> bytes = sector[(EccFrom + half)..];
            for (int n = 0; n < Columns; n++)
                AddPair(bytes, n, Columns, Rows, int.MaxValue, Rows * Columns + n, Columns);
            for (int n = 0; n < Diagonals; n++)
                AddPair(bytes, Columns * n, Columns + 1, Columns, Words, Words + n, Diagonals);
        }
    }

    /// <summary>Two bytes that make the sum of a vector zero, and the sum weighted by falling powers of the field's
    /// generator too. All places count words.</summary>
    static void AddPair(Span<byte> bytes, int first, int step, int count, int wrap, int parity, int parityStep)
    {
        byte sum = 0, weighted = 0;
        for (int i = 0, word = first % wrap; i < count; i++, word = (word + step) % wrap)
        {
            byte value = bytes[2 * word];
            sum ^= value;
            weighted = Double((byte)(weighted ^ value));
        }
        byte p = Times((byte)(Double(weighted) ^ sum), InverseOf3);
        bytes[2 * parity] = p;
        bytes[2 * (parity + parityStep)] = (byte)(sum ^ p);
    }

    static byte Double(byte value) => (byte)(value << 1 ^ ((value & 0x80) != 0 ? 0x1D : 0));

    static byte Times(byte a, byte b)
    {
        byte product = 0;
        for (; b != 0; b >>= 1, a = Double(a))
            if ((b & 1) != 0) product ^= a;
        return product;
    }
}
