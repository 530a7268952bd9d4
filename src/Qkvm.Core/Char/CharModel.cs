using Qkvm.Core.Machine;

namespace Qkvm.Core.Char;

/// <summary>A character backend as -chardev names it.</summary>
public sealed record CharModel : Model<IBackendHost, ICharBackend>
{
    /// <summary>What every one takes; the host reads mux= and the log's.</summary>
    static readonly Property[] Common =
    [
        Property.Text("id"), Property.Bool("mux", false, "several frontends share it"),
        Property.Text("logfile", help: "what the frontend writes is copied here"), Property.Bool("logappend", false),
    ];

    public CharModel(string name, Property[] own, Func<Properties, IBackendHost, ICharBackend> create)
        : base(name, [.. own, .. Common], create) { }

    /// <summary>A backend that QEMU has and we have not.</summary>
    public static CharModel Missing(string name, string why = "is not built yet") =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };
}
