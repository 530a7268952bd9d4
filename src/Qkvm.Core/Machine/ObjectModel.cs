namespace Qkvm.Core.Machine;

/// <summary>What -object names: memory, sources of entropy … Other options refer to the objects by their ids.</summary>
public sealed record ObjectModel : Model<IBackendHost, object>
{
    public ObjectModel(string name, Property[] own, Func<Properties, IBackendHost, object> create)
        : base(name, [.. own, Property.Text("id")], create) { }

    /// <summary>It refers to a netdev, and so is made after those; others may be referred to by them.</summary>
    public bool NeedsNetdev { get; init; }

    /// <summary>It talks of the machine, and so is made after that.</summary>
    public bool NeedsMachine { get; init; }

    /// <summary>An object that QEMU has and we have not.</summary>
    public static ObjectModel Missing(string name, string why = "is not built yet") =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };
}
