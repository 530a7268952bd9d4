namespace Qkvm.Core.Configuration;

/// <summary>"did you mean": the nearest of the known names.</summary>
public static class Suggestion
{
    const int LongestWord = 100;                                   // the search costs the product of the lengths

    /// <returns>"; did you mean 'x'?", or nothing where no name is near.</returns>
    public static string For(string wrong, IEnumerable<string> known, string prefix = "") =>
        Nearest(wrong, known) is { } best ? $"; did you mean '{prefix}{best}'?" : "";

    /// <returns>The nearest name, or null where none is near.</returns>
    public static string? Nearest(string wrong, IEnumerable<string> known)
    {
        if (wrong.Length > LongestWord) return null;
        string? best = null;
        int bestDistance = (wrong.Length < 3 ? 0 : Math.Max(1, wrong.Length / 3)) + 1; // any short name is near another
        foreach (string name in known)
        {
            int distance = Distance(wrong, name);
            if (distance < bestDistance) (best, bestDistance) = (name, distance);
        }
        return best;
    }

    /// <summary>Edits (insertions, deletions, replacements, swaps of neighbours) between two names, upper case
    /// aside.</summary>
    public static int Distance(string a, string b)
    {
        var d = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++) d[i, 0] = i;
        for (int j = 0; j <= b.Length; j++) d[0, j] = j;
        for (int i = 1; i <= a.Length; i++)
            for (int j = 1; j <= b.Length; j++)
            {
                bool same = char.ToLowerInvariant(a[i - 1]) == char.ToLowerInvariant(b[j - 1]);
                d[i, j] = Math.Min(Math.Min(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + (same ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                    d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
            }
        return d[a.Length, b.Length];
    }
}
