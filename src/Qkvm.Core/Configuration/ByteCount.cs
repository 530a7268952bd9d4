using System.Globalization;

namespace Qkvm.Core.Configuration;

/// <summary>Sizes for people: three digits and a unit.</summary>
public static class ByteCount
{
    static readonly string[] s_units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    public static string Text(long bytes)
    {
        // from 1000 on the next unit is the shorter one
        int unit = 0;
        double size = bytes;
        for (; size >= 1000 && unit + 1 < s_units.Length; unit++) size /= 1024;
        string text = size >= 100 || size == Math.Truncate(size) ? size.ToString("F0", CultureInfo.InvariantCulture)
            : size.ToString(size >= 10 ? "0.#" : size >= 1 ? "0.##" : "0.###", CultureInfo.InvariantCulture);
        return $"{text} {s_units[unit]}";
    }
}
