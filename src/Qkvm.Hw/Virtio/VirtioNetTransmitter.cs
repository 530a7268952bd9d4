using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A transmit queue: each chain is a header and a frame, which goes to the backend out of guest memory.
/// Virtio 1.2, section 5.1.6.2.</summary>
sealed class VirtioNetTransmitter(VirtioNet card, VirtioNetReceiver pair, IoLoop loop, int index)
    : LoopQueue(loop, card, index)
{
    const int Burst = 64;                                          // frames, before others get their turn
    const int LargestFrame = 65536 + 64;                           // with Ethernet's header and tags

    protected override bool Process(Virtqueue queue, int most)
    {
        int budget = Math.Min(most, Burst), left = budget;
        for (; left > 0 && queue.TryPop(out DescriptorChain? chain); left--)
        {
            if (chain.ReadableLength < card.HeaderLength || chain.WritableLength != 0)
            {
                queue.Unpop(chain);
                card.Control.FailOnLoop("a frame to send without its header");
                return true;
            }
            Began();
            Send(chain);
            Ended(queue, chain, 0);
        }
        if (IoLoop.Current != Loop) card.SignalReceived(pair);              // answers that came at once
        return left < budget;
    }

    /// <summary>A frame of the card's own.</summary>
    public void Announce()
    {
        lock (Gate)
            if (pair.Wire is { } wire) SelfAnnouncement.Send(wire, card.CurrentMac);
        card.SignalReceived(pair);
    }

    void Send(DescriptorChain chain)
    {
        int skip = card.HeaderLength;
        long length = chain.ReadableLength - skip;
        if (pair.Wire is not { } wire || !card.IsLinkUp || length is < VirtioNet.EthernetHeader or > LargestFrame)
            return;
        Span<byte> raw = stackalloc byte[NetHeader.Length];
        chain.Readable.Slice(0, raw.Length).CopyTo(raw);
        NetOffloads allowed = card.Sending;
        // A driver that was promised nothing has nothing to say, and some leave garbage there.
        NetHeader header = allowed == NetOffloads.None ? default : NetHeader.Read(raw) with { IsChecked = false };
        if (header.LeftUndone is not { } undone || (undone & ~allowed) != 0) return;
        ScatterList frame = chain.Readable.Slice(skip, length);
        wire.Send(header, frame);
    }
}
