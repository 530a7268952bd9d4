using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object rng-builtin: the host kernel's generator, by getrandom(2).</summary>
public sealed class RngBuiltin : IEntropySource
{
    public static readonly ObjectModel Model = new("rng-builtin", [], static (_, _) =>
        new RngBuiltin()) { Description = "the host kernel's generator" };

    public void Fill(Span<byte> data) => HostEntropy.Fill(data);
}
