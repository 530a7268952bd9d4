namespace Qkvm.Img;

/// <summary>An option of the subcommands; those of one name mean the same everywhere.</summary>
/// <param name="Short">'\0' for none.</param>
/// <param name="Long">Null for none.</param>
sealed record Option(char Short, string? Long, bool TakesValue = false)
{
    public static readonly Option
        Help = new('h', "help"), Object = new('\0', "object", true), ImageOpts = new('\0', "image-opts"),
        Output = new('\0', "output", true), ForceShare = new('U', "force-share"), Quiet = new('q', "quiet"),
        Progress = new('p', "progress"), Format = new('f', "format", true), Cache = new('t', "cache", true),
        SourceCache = new('T', "source-cache", true), Options = new('o', "options", true),
        BackingFile = new('b', "backing", true), BackingFormat = new('F', "backing-format", true),
        TargetFormat = new('O', "target-format", true), RateLimit = new('r', "rate-limit", true),
        Snapshot = new('l', "snapshot", true);
}
