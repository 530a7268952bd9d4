namespace Qkvm.Backends.Display.Curses;

/// <summary>What a terminal can show, as the environment tells.</summary>
/// <param name="Colors">0, 16 or 256.</param>
/// <param name="IsUnicode">It takes UTF-8.</param>
/// <param name="HasTitle">Of its window, which control sequences may change.</param>
sealed record TerminalKind(int Colors, bool IsUnicode, bool HasTitle = false)
{
    /// <summary>Null where it cannot place its cursor.</summary>
    /// <param name="variable">By name.</param>
    public static TerminalKind? Of(Func<string, string?> variable)
    {
        string term = variable("TERM") ?? "";
        if (term is "" or "dumb" or "unknown" or "emacs") return null;
        string locale = new[] { "LC_ALL", "LC_CTYPE", "LANG" }.Select(variable)
            .FirstOrDefault(value => !string.IsNullOrEmpty(value)) ?? "";
        bool isUnicode = locale.Contains("UTF-8", StringComparison.OrdinalIgnoreCase)
            || locale.Contains("utf8", StringComparison.OrdinalIgnoreCase);
        bool isRich = term.Contains("256color", StringComparison.Ordinal)
            || term.Contains("direct", StringComparison.Ordinal) || !string.IsNullOrEmpty(variable("COLORTERM"));
        bool isPlain = term.StartsWith("vt", StringComparison.Ordinal)
            || term.EndsWith("-m", StringComparison.Ordinal) || term.EndsWith("-mono", StringComparison.Ordinal);
        bool hasTitle = new[] { "xterm", "rxvt", "screen", "tmux", "alacritty", "foot" }.Any(name =>
            term.StartsWith(name, StringComparison.Ordinal));
        return new TerminalKind(isRich ? 256 : isPlain ? 0 : 16, isUnicode, hasTitle);
    }
}
