using Qkvm.Core.Machine;

namespace Qkvm.Core.Tpm;

/// <summary>The host side of a TPM as -tpmdev names it.</summary>
public sealed record TpmModel : Model<IBackendHost, ITpm>
{
    public TpmModel(string name, Property[] own, Func<Properties, IBackendHost, ITpm> create)
        : base(name, [.. own, Property.Text("id")], create) { }

    /// <summary>One that QEMU has and we have not.</summary>
    public static TpmModel Missing(string name, string why) =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };
}
