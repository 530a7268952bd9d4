namespace Qkvm.Hw.Scsi;

/// <summary>Status of a command. SAM-5, section 5.3.1.</summary>
public enum ScsiStatus : byte { Good = 0, CheckCondition = 2 }

/// <summary>Why a command failed: sense key, and code with qualifier. SPC-4, section 4.5.6 and table 56.</summary>
public readonly record struct ScsiSense(byte Key, ushort Code)
{
    public static readonly ScsiSense None = new(0, 0), InvalidOpcode = new(5, 0x2000), OutOfRange = new(5, 0x2100),
        InvalidField = new(5, 0x2400), NoSuchUnit = new(5, 0x2500), InvalidParameter = new(5, 0x2600),
        ParameterLength = new(5, 0x1A00), NoMedium = new(2, 0x3A00), RemovalPrevented = new(5, 0x5302),
        WriteProtected = new(7, 0x2700), MediumChanged = new(6, 0x2800), ReadError = new(3, 0x1100),
        WriteError = new(3, 0x0C00), SpaceFailed = new(7, 0x2707);

    /// <summary>Fixed format, section 4.5.3: bytes of it.</summary>
    public const int FixedSize = 18;

    /// <param name="target">As much as the initiator wants, zeros.</param>
    public int WriteFixed(Span<byte> target)
    {
        Span<byte> sense = stackalloc byte[FixedSize];
        sense.Clear();
        (sense[0], sense[2], sense[7]) = (0x70, Key, FixedSize - 8);
        (sense[12], sense[13]) = ((byte)(Code >> 8), (byte)Code);
        int count = Math.Min(FixedSize, target.Length);
        sense[..count].CopyTo(target);
        return count;
    }
}
