namespace Qkvm.Hw.Scsi;

/// <summary>Status of a command. SAM-5, section 5.3.1.</summary>
public enum ScsiStatus : byte { Good = 0, CheckCondition = 2 }

/// <summary>Why a command failed: sense key, and code with qualifier. SPC-4, section 4.5.6 and table 56.</summary>
public readonly record struct ScsiSense(byte Key, ushort Code)
{
    public static readonly ScsiSense None = new(0, 0), InvalidOpcode = new(5, 0x2000), OutOfRange = new(5, 0x2100),
        InvalidField = new(5, 0x2400), NoSuchUnit = new(5, 0x2500), InvalidParameter = new(5, 0x2600),
        ParameterLength = new(5, 0x1A00), NoMedium = new(2, 0x3A00),
        Aborted = new(11, 0), RemovalPrevented = new(5, 0x5302), RemovalPreventedEmpty = new(2, 0x5302),
        WriteProtected = new(7, 0x2700), PowerOn = new(6, 0x2900), MediumChanged = new(6, 0x2800),
        CapacityChanged = new(6, 0x2A09), UnitsChanged = new(6, 0x3F0E), ReadError = new(3, 0x1100),
        WriteError = new(3, 0x0C00), SpaceFailed = new(7, 0x2707), SavingNotSupported = new(5, 0x3900),
        IncompatibleMedium = new(5, 0x3002), IllegalMode = new(5, 0x6400);

    /// <summary>Fixed format, section 4.5.3: bytes of it.</summary>
    public const int FixedSize = 18;

    public bool IsNone => Key == 0 && Code == 0;

    /// <param name="target">As much as the initiator wants, zeros.</param>
    public int WriteFixed(Span<byte> target)
    {
        const byte current = 0x70;
        Span<byte> sense = stackalloc byte[FixedSize];
        sense.Clear();
        (sense[0], sense[2], sense[7]) = (current, Key, FixedSize - 8);
        (sense[12], sense[13]) = ((byte)(Code >> 8), (byte)Code);
        return Put(sense, target);
    }

    /// <summary>Descriptor format without descriptors, section 4.5.2.</summary>
    public int WriteDescriptor(Span<byte> target) =>
        Put([0x72, Key, (byte)(Code >> 8), (byte)Code, 0, 0, 0, 0], target);

    /// <summary>Of a request to the medium that failed.</summary>
    public static ScsiSense Of(int errno, bool isRead)
    {
        const int noSpace = 28, noMedium = 123;
        return errno switch
        {
            noSpace => SpaceFailed,
            noMedium => NoMedium,
            _ => isRead ? ReadError : WriteError,
        };
    }

    static int Put(ReadOnlySpan<byte> sense, Span<byte> target)
    {
        int count = Math.Min(sense.Length, target.Length);
        sense[..count].CopyTo(target);
        return count;
    }
}
