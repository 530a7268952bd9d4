using Qkvm.Core.Machine;

namespace Qkvm.Core.Net;

/// <summary>A network backend as -netdev names it.</summary>
public sealed record NetModel : Model<IBackendHost, NetBackend>
{
    public NetModel(string name, Property[] own, Func<Properties, IBackendHost, NetBackend> create)
        : base(name, [.. own, Property.Text("id")], create) { }

    /// <summary>A backend that QEMU has and we have not.</summary>
    public static NetModel Missing(string name, string why = "is not built yet; use tap") =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };
}
