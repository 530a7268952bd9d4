namespace Qkvm.Core.Machine;

/// <summary>Random bytes for guests: what -object rng-… makes. Under the machine lock; never waits.</summary>
public interface IEntropySource
{
    void Fill(Span<byte> data);
}
