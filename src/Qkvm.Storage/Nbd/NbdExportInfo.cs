namespace Qkvm.Storage.Nbd;

/// <summary>What a server says of an export.</summary>
/// <param name="Length">Bytes.</param>
sealed record NbdExportInfo(string Name, long Length, NbdExportFlags Flags)
{
    public string Description { get; init; } = "";

    /// <summary>Bytes; null where the server says nothing of them.</summary>
    public (uint Minimum, uint Preferred, uint Maximum)? BlockSizes { get; init; }

    public bool IsStructured { get; init; }

    /// <summary>The number of base:allocation, or of the bitmap that was asked for instead; null for none.</summary>
    public uint? Context { get; init; }

    /// <summary>Names of all contexts, where they were asked for.</summary>
    public IReadOnlyList<string> Contexts { get; init; } = [];

    public bool Has(NbdExportFlags flag) => (Flags & flag) != 0;
}
