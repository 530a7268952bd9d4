using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>One of a card's: of pairs that were negotiated, the peer's; control is served here.</summary>
sealed class VhostNetQueue(VirtioNet card, IVhostNet peer, IoLoop loop, int index)
    : VhostQueue(card, peer, loop, index)
{
    protected override bool IsPeers => Index / 2 < card.MaxPairs;

    protected override bool TryServe()
    {
        if (!card.IsControl(Index)) return false;
        card.ServeControlLater();
        return true;
    }
}
