using Qkvm.Core.Virtio;

namespace Qkvm.Core.Net;

/// <summary>A network backend whose peer serves a card's rings by itself, in guest memory. Under the machine
/// lock.</summary>
public interface IVhostNet : IVhostBackend
{
    /// <summary>How many pairs of rings are in use.</summary>
    void SetPairs(int pairs);
}
