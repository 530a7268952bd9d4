using System.Globalization;
using System.Text;

namespace Qkvm.Storage.Drivers.Vvfat;

/// <summary>Names of 8 + 3 characters for the files of one directory, each its own. Spec: FAT overview, "The Basis-Name
/// Generation Algorithm" and "The Numeric-Tail Generation Algorithm".</summary>
sealed class ShortNames
{
    const string Allowed = "!#$%&'()-@^_`{}~";
    const int BaseLength = 8, ExtensionLength = 3;

    readonly HashSet<string> _taken = new(StringComparer.Ordinal);

    /// <returns>11 bytes; <paramref name="isExact"/>: they say all that the name says.</returns>
    public byte[] Make(string name, out bool isExact)
    {
        int dot = name.LastIndexOf('.');
        if (dot <= 0) dot = name.Length;
        string stem = Basis(name[..dot]), extension = Basis(dot < name.Length ? name[(dot + 1)..] : "");
        string shown = extension.Length > 0 ? $"{stem}.{extension}" : stem;
        if (extension.Length > ExtensionLength) extension = extension[..ExtensionLength];
        bool fits = stem.Length is > 0 and <= BaseLength && string.Equals(shown, name, StringComparison.Ordinal);
        if (fits && _taken.Add(Padded(stem, extension)))
        {
            isExact = true;
            return Encoding.ASCII.GetBytes(Padded(stem, extension));
        }
        isExact = false;
        for (int number = 1; ; number++)
        {
            string tail = "~" + number.ToString(CultureInfo.InvariantCulture);
            string padded = Padded(stem[..Math.Min(stem.Length, BaseLength - tail.Length)] + tail, extension);
            if (_taken.Add(padded)) return Encoding.ASCII.GetBytes(padded);
        }
    }

    static string Padded(string stem, string extension) =>
        stem.PadRight(BaseLength) + extension.PadRight(ExtensionLength);

    static string Basis(string text)
    {
        var basis = new StringBuilder();
        foreach (char one in text)
        {
            if (one is ' ' or '.') continue;
            char upper = char.ToUpperInvariant(one);
            basis.Append(char.IsAsciiLetterUpper(upper) || char.IsAsciiDigit(upper) || Allowed.Contains(upper) ? upper
                : '_');
        }
        return basis.ToString();
    }
}
