using System.Globalization;

namespace Qkvm.Core.Logging;

/// <summary>-dfilter: the guest addresses whose code is logged. "a..b", "a+length" and "a-length", separated by
/// commas.</summary>
public sealed class AddressFilter
{
    readonly List<(ulong First, ulong Last)> _ranges = [];

    /// <exception cref="ConfigurationException">Names the option and the range.</exception>
    public static AddressFilter Parse(IEnumerable<string> arguments)
    {
        var filter = new AddressFilter();
        foreach (string argument in arguments)
            foreach (string range in argument.Split(',')) filter._ranges.Add(Range(range, $"-dfilter {argument}"));
        return filter;
    }

    public bool Contains(ulong address)
    {
        foreach ((ulong first, ulong last) in _ranges)
            if (address >= first && address <= last) return true;
        return false;
    }

    static (ulong, ulong) Range(string text, string owner)
    {
        int at = text.AsSpan().IndexOfAny('-', '+');
        if (text.IndexOf("..", StringComparison.Ordinal) is >= 0 and var dots) at = dots;
        if (at < 0) throw Wrong("Bad range specifier");
        string sign = text[at] == '.' ? ".." : text[at..(at + 1)];
        ulong left = Number(text[..at], $"left of {sign}"), right = Number(text[(at + sign.Length)..],
            $"right of {sign}");
        (ulong first, ulong last) = sign switch
        {
            "+" => (left, left + (right - 1)),
            "-" => (left - (right - 1), left),
            _ => (left, right),
        };
        return first <= last ? (first, last) : throw Wrong("Invalid range");

        ConfigurationException Wrong(string what) =>
            new($"{owner}: {what}: '{text}'; write FIRST..LAST, START+LENGTH or END-LENGTH, as 0x1000..0x1fff");

        ulong Number(string digits, string side)
        {
            bool isHex = digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
            return ulong.TryParse(isHex ? digits[2..] : digits, isHex ? NumberStyles.AllowHexSpecifier
                : NumberStyles.None, CultureInfo.InvariantCulture, out ulong number) ? number
                : throw Wrong($"Invalid number to the {side}");
        }
    }
}
