namespace Qkvm.Storage.Graph;

/// <summary>How the image tool opens an image.</summary>
/// <param name="Format">Null: to be guessed.</param>
public sealed record ImageOpening(string? Format = null)
{
    public bool IsWritable { get; init; }
    public CacheMode Cache { get; init; } = CacheMode.Default;

    /// <summary>-U: without image locks, whoever writes to it meanwhile.</summary>
    public bool ForceShare { get; init; }

    /// <summary>Without what it lies over.</summary>
    public bool IsAlone { get; init; }

    /// <summary>Only for what it says of itself: data files stay closed.</summary>
    public bool IsUnread { get; init; }

    /// <summary>To be checked: damage that a check may mend is no reason to refuse it.</summary>
    public bool IsChecked { get; init; }

    /// <summary>Options of the format's own: "key-secret".</summary>
    public IReadOnlyList<OptionPair> Own { get; init; } = [];

    /// <summary>Files that are not yet where the image says.</summary>
    public IReadOnlyList<NewExtent> Extents { get; init; } = [];

    internal Surroundings Around(string owner) => new()
    {
        Owner = owner, Cache = Cache, ReadOnly = !IsWritable, ForceShare = ForceShare, Discard = true, AsUser = true,
        IsTool = true, IsAlone = IsAlone, IsUnread = IsUnread,
        IsChecked = IsChecked,
    };
}
