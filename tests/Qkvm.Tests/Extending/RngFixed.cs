using Qkvm.Core.Machine;

namespace Qkvm.Tests.Extending;

/// <summary>-object rng-fixed,byte=N: no entropy at all, for guests whose runs have to be the same.</summary>
public sealed class RngFixed(byte value) : IEntropySource
{
    public static readonly ObjectModel Model = new("rng-fixed", [Property.Number("byte", 0x55, max: 0xFF)],
        static (properties, _) => new RngFixed((byte)properties.Number("byte")));

    public void Fill(Span<byte> data) => data.Fill(value);
}
