using System.Globalization;
using Qkvm.Core.Devices;

namespace Qkvm.Cli;

/// <summary>Sizes as users type them: 512M, 2G, 1.5G, 0x10000000; suffixes b k M G T P E.</summary>
public static class Sizes
{
    /// <param name="unit">Bytes that a number without suffix counts in.</param>
    public static ulong Parse(string text, ulong unit, string owner)
    {
        string digits = text;
        ulong scale = unit;
        if (text.Length > 0 && Suffix(text[^1]) is { } found && !text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            (digits, scale) = (text[..^1], found);
        if (Properties.TryParseNumber(digits, out ulong whole))
        {
            if (whole > ulong.MaxValue / scale) throw new ConfigurationException($"{owner}: '{text}' is too large");
            return whole * scale;
        }
        if (decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal fraction)
            && fraction >= 0 && fraction * scale <= long.MaxValue)
            return (ulong)(fraction * scale);
        throw new ConfigurationException($"{owner}: '{text}' is not a size; write for example 512M or 2G");
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
