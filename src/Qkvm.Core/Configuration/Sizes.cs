using System.Globalization;

namespace Qkvm.Core.Configuration;

/// <summary>Sizes as users type them: 512M, 2G, 1.5G, 0x10000000; suffixes b k M G T P E.</summary>
public static class Sizes
{
    /// <param name="unit">Bytes that a number without suffix counts in.</param>
    public static bool TryParse(string text, ulong unit, out ulong bytes)
    {
        bytes = 0;
        string digits = text;
        ulong scale = unit;
        if (text.Length > 0 && Suffix(text[^1]) is { } found
            && !text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            (digits, scale) = (text[..^1], found);
        if (Properties.TryParseNumber(digits, out ulong whole))
        {
            if (whole > ulong.MaxValue / scale) return false;
            bytes = whole * scale;
            return true;
        }
        if (!decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture,
            out decimal fraction)
            || digits[0] == '.' || fraction > long.MaxValue / scale) return false;
        if (scale == 1 && fraction != decimal.Truncate(fraction)) return false; // a fraction of a byte is none
        bytes = (ulong)(fraction * scale);
        return true;
    }

    static ulong? Suffix(char c) => char.ToLowerInvariant(c) switch
    {
        'b' => 1,
        'k' => 1UL << 10,
        'm' => 1UL << 20,
        'g' => 1UL << 30,
        't' => 1UL << 40,
        'p' => 1UL << 50,
        'e' => 1UL << 60,
        _ => null,
    };
}
