namespace Qkvm.Hw.Storage;

/// <summary>Kinds of drives, by their numbers in CMOS RAM. Spec: IBM PS/2 Hardware Interface Technical Reference, "CMOS
/// RAM", byte 10h.</summary>
public enum FloppyType : byte { None = 0, Inch5 = 2, Inch3 = 4, Inch3Extra = 5 }

/// <summary>What the controller's data rate register selects, bits 1 and 0.</summary>
public enum FloppyRate : byte { Kbps500, Kbps300, Kbps250, Kbps1000 }

/// <summary>How sectors of 512 bytes lie on a disk.</summary>
/// <param name="Drive">That it is made for.</param>
/// <param name="Sectors">On one side of a track.</param>
public readonly record struct FloppyFormat(FloppyType Drive, int Sectors, int Tracks, int Heads, FloppyRate Rate)
{
    public const int SectorSize = 512;

    /// <summary>The first of a drive is what has no size of a known one.</summary>
    static readonly FloppyFormat[] s_all =
    [
        .. Of(FloppyType.Inch3, FloppyRate.Kbps500, (18, 80), (20, 80), (21, 80), (21, 82), (21, 83), (22, 80),
            (23, 80), (24, 80)),
        .. Of(FloppyType.Inch3Extra, FloppyRate.Kbps1000, (36, 80), (39, 80), (40, 80), (44, 80), (48, 80)),
        .. Of(FloppyType.Inch3, FloppyRate.Kbps250, (9, 80), (10, 80), (10, 82), (10, 83), (13, 80), (14, 80)),
        .. Of(FloppyType.Inch5, FloppyRate.Kbps500, (15, 80), (18, 82), (18, 83)),
        .. Of(FloppyType.Inch5, FloppyRate.Kbps300, (11, 80), (9, 40), (10, 41), (10, 42), (8, 40)),
        new(FloppyType.Inch5, 9, 40, 1, FloppyRate.Kbps300), new(FloppyType.Inch5, 8, 40, 1, FloppyRate.Kbps300),
    ];

    /// <summary>Bytes.</summary>
    public long Length => (long)Sectors * Tracks * Heads * SectorSize;

    /// <summary>Which format a disk of that size has.</summary>
    /// <param name="bytes">0 for no disk.</param>
    /// <param name="drive">Null: whichever fits.</param>
    /// <param name="otherwise">The drive, where no format has the size.</param>
    public static FloppyFormat For(long bytes, FloppyType? drive, FloppyType otherwise)
    {
        foreach (FloppyFormat format in s_all)
            if (format.Length == bytes && (drive == null || format.Fits(drive.Value))) return format;
        return Array.Find(s_all, format => format.Drive == (drive ?? otherwise));
    }

    /// <summary>A drive for 2.88 MB reads what the one for 1.44 MB does.</summary>
    bool Fits(FloppyType drive) => Drive == drive || drive == FloppyType.Inch3Extra && Drive == FloppyType.Inch3;

    static IEnumerable<FloppyFormat> Of(FloppyType drive, FloppyRate rate, params (int Sectors, int Tracks)[] sizes) =>
        sizes.Select(size => new FloppyFormat(drive, size.Sectors, size.Tracks, 2, rate));
}
