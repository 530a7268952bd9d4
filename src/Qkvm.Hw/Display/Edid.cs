using System.Buffers.Binary;

namespace Qkvm.Hw.Display;

/// <summary>The identification of a monitor that prefers one resolution and shows the usual ones up to a largest. Spec:
/// VESA Enhanced EDID Standard, release A, revision 2 (EDID 1.4), section 3; the section of each part is beside
/// it.</summary>
public static class Edid
{
    public const int Size = 128;

    /// <summary>A detailed timing has 12 bits for each direction.</summary>
    public const int MaxResolution = 4095;

    const int ManufacturerAt = 8, YearAt = 17, VersionAt = 18, InputAt = 20, ColorsAt = 25, EstablishedAt = 35,
        StandardAt = 38, TimingAt = 54, DescriptorSize = 18, ChecksumAt = 127;
    const int DotsPerInch = 100, RefreshRate = 60, MaxClock = 65_535;  // 10 kHz
    const int BaseYear = 1990, Year = 2026;
    const byte RangeLimits = 0xFD, ProductName = 0xFC, Dummy = 0x10;

    /// <summary>Section 3.7: red, green, blue, white of sRGB, ten bits each.</summary>
    static ReadOnlySpan<byte> StandardColors => [0xEE, 0x91, 0xA3, 0x54, 0x4C, 0x99, 0x26, 0x0F, 0x50, 0x54];

    /// <summary>Section 3.8, "Established Timings": at 60 Hz, with their byte and bit.</summary>
    static readonly (int Width, int Height, int Byte, byte Bit)[] s_established =
        [(640, 480, 0, 0x20), (800, 600, 0, 0x01), (1024, 768, 1, 0x08)];

    /// <summary>Section 3.9, "Standard Timings": up to eight, with the code of their aspect ratio.</summary>
    static readonly (int Width, int Height, byte Aspect)[] s_standard =
        [(1920, 1200, 0), (1920, 1080, 3), (1680, 1050, 0), (1600, 1200, 1), (1440, 900, 0), (1280, 1024, 2),
            (1280, 720, 3), (1152, 864, 1)];

    /// <summary>The 128 bytes of a display without extension blocks.</summary>
    /// <param name="width">In pixels, up to <see cref="MaxResolution"/>, as is the height.</param>
    /// <param name="maxWidth">No larger resolution is named, but for the preferred one; 0 for no bound.</param>
    public static byte[] Build(int width, int height, int maxWidth = 0, int maxHeight = 0)
    {
        byte[] edid = new byte[Size];
        edid.AsSpan(1, 6).Fill(0xFF);                              // 3.3: the fixed pattern
        BinaryPrimitives.WriteUInt16BigEndian(edid.AsSpan(ManufacturerAt), PnpId("QKV")); // 3.4
        edid[YearAt] = Year - BaseYear;
        (edid[VersionAt], edid[VersionAt + 1]) = (1, 4);           // 3.5
        edid[InputAt] = 0xA5;                                      // 3.6: digital, 8 bits a colour, DisplayPort
        (edid[InputAt + 1], edid[InputAt + 2]) = (Centimetres(width), Centimetres(height));
        edid[InputAt + 3] = 120;                                   // gamma 2.2
        edid[InputAt + 4] = 0x06;                                  // sRGB; the preferred timing is the native one
        StandardColors.CopyTo(edid.AsSpan(ColorsAt));
        foreach (var mode in s_established)
            if (Fits(mode.Width, mode.Height)) edid[EstablishedAt + mode.Byte] |= mode.Bit;
        Span<byte> standard = edid.AsSpan(StandardAt, 16);
        standard.Fill(1);                                          // unused
        foreach (var mode in s_standard)
        {
            if (!Fits(mode.Width, mode.Height)) continue;
            standard[0] = (byte)(mode.Width / 8 - 31);
            standard[1] = (byte)(mode.Aspect << 6 | RefreshRate - 60);
            standard = standard[2..];
        }
        Span<byte> descriptors = edid.AsSpan(TimingAt);
        WriteTiming(descriptors, width, height);
        WriteRangeLimits(Descriptor(descriptors, 1, RangeLimits));
        Span<byte> name = Descriptor(descriptors, 2, ProductName);
        name.Fill((byte)' ');
        "qkvm monitor\n"u8.CopyTo(name);
        Descriptor(descriptors, 3, Dummy);
        edid[ChecksumAt] = (byte)-Sum(edid);
        return edid;

        bool Fits(int w, int h) => (maxWidth == 0 || w <= maxWidth) && (maxHeight == 0 || h <= maxHeight);
    }

    /// <summary>Section 3.10.2, "Detailed Timing Descriptor": short pauses, as between the lines of flat
    /// screens.</summary>
    static void WriteTiming(Span<byte> timing, int width, int height)
    {
        const int Blank = 160, FrontPorch = 48, Sync = 32, VerticalFrontPorch = 3, VerticalSync = 6;
        int verticalBlank = Math.Max(height / 28, VerticalFrontPorch + VerticalSync + 6);
        long clock = (long)(width + Blank) * (height + verticalBlank) * RefreshRate / 10_000;
        // huge ones are shown more slowly
        BinaryPrimitives.WriteUInt16LittleEndian(timing, (ushort)Math.Min(clock, MaxClock));
        (timing[2], timing[3], timing[4]) = Split(width, Blank);
        (timing[5], timing[6], timing[7]) = Split(height, verticalBlank);
        (timing[8], timing[9], timing[10]) = (FrontPorch, Sync, VerticalFrontPorch << 4 | VerticalSync);
        int widthInMillimetres = Millimetres(width), heightInMillimetres = Millimetres(height);
        (timing[12], timing[13], timing[14]) = Split(widthInMillimetres, heightInMillimetres);
        timing[17] = 0x18;                                         // digital separate sync

        static (byte, byte, byte) Split(int first, int second) =>
            ((byte)first, (byte)second, (byte)(first >> 8 << 4 | second >> 8));
    }

    /// <summary>Section 3.10.3.3, "Display Range Limits": 50 to 125 Hz, 30 to 160 kHz, 660 MHz, no formula.</summary>
    static void WriteRangeLimits(Span<byte> data)
    {
        ReadOnlySpan<byte> limits = [50, 125, 30, 160, 66, 0x01, (byte)'\n'];
        data.Fill((byte)' ');
        limits.CopyTo(data);
    }

    /// <summary>Section 3.10.3: a zero clock, the tag, and 13 bytes of data, which are returned.</summary>
    static Span<byte> Descriptor(Span<byte> descriptors, int index, byte tag)
    {
        descriptors[index * DescriptorSize + 3] = tag;
        return descriptors.Slice(index * DescriptorSize + 5, 13);
    }

    static ushort PnpId(string letters) =>
        (ushort)((letters[0] - '@') << 10 | (letters[1] - '@') << 5 | letters[2] - '@');
    static int Millimetres(int pixels) => pixels * 254 / (DotsPerInch * 10);
    static byte Centimetres(int pixels) => (byte)Math.Min(Millimetres(pixels) / 10, byte.MaxValue);

    static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte b in bytes) sum += b;
        return sum;
    }
}
