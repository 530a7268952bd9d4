using Qkvm.Core.Machine;

namespace Qkvm.Core.Files;

/// <summary>A kind of file system as -fsdev names it: "local".</summary>
public sealed record FileSystemModel : Model<IBackendHost, SharedFolder>
{
    public FileSystemModel(string name, Property[] own, Func<Properties, IBackendHost, SharedFolder> create)
        : base(name, [.. own, Property.Text("id")], create) { }

    /// <summary>One that QEMU has and we have not.</summary>
    public static FileSystemModel Missing(string name, string why) =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };
}
