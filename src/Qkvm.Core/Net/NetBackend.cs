using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Core.Net;

/// <summary>The host side of a network device, which one card uses at a time: tap, user, socket.</summary>
/// <remarks>Locks are taken in the order: the card's for sending, the backend's own, the card's for receiving. So a
/// backend may call <see cref="INetPort.Receive"/> while it holds its own lock, one call at a time, and does so on the
/// card's loop or inside <see cref="INetQueue.Send"/>, which comes from any thread. <see cref="INetQueue.Resume"/>
/// takes no lock, but posts to the loop.</remarks>
public abstract class NetBackend(string id)
{
    public string Id => id;

    /// <summary>As `info network` shows it: "index=0,type=tap,ifname=tap0".</summary>
    public abstract string Description { get; }

    /// <summary>The cable to it: what takes the backend opens that. Under the machine lock.</summary>
    public NetLink Link => field ??= new NetLink(this);

    /// <summary>What a card may leave undone in frames that it sends.</summary>
    public virtual NetOffloads Takes => NetOffloads.None;

    /// <summary>What the backend can leave undone in frames for a card that asks for it
    /// (<see cref="INetQueue.Accept"/>).</summary>
    public virtual NetOffloads Gives => NetOffloads.None;

    /// <summary>Pairs of queues, each of which may be served on a loop of its own.</summary>
    public virtual int MaxQueues => 1;

    /// <summary>Its peer serves rings by itself, and cards without rings cannot use it; null: as all others.</summary>
    public virtual IVhostNet? Vhost => null;

    /// <summary>Connects a card's pair of queues; frames come to the port from now on. Under the machine
    /// lock.</summary>
    /// <param name="loop">Where the port is called: the main loop for a card under the machine lock.</param>
    public abstract INetQueue Open(int index, INetPort port, IoLoop loop);
}

/// <summary>A backend's end of a pair of queues. <see cref="IDisposable.Dispose"/>, under the machine lock, ends it:
/// the port is not called any more when it returns, or from what the loop does next on.</summary>
public interface INetQueue : IDisposable
{
    /// <summary>What the card's driver lets be left undone in frames for it, out of
    /// <see cref="NetBackend.Gives"/>.</summary>
    void Accept(NetOffloads offloads);

    /// <summary>Takes one Ethernet frame without FCS, or drops it: as a wire, it never waits. From any thread, one at a
    /// time.</summary>
    /// <param name="header">Within <see cref="NetBackend.Takes"/>. Its numbers are the guest's: anything.</param>
    /// <param name="frame">Read before it returns.</param>
    void Send(in NetHeader header, in ScatterList frame);

    /// <summary>The port has room again. From any thread.</summary>
    void Resume();
}

/// <summary>A card's receiving end of a pair of queues.</summary>
public interface INetPort
{
    /// <summary>One Ethernet frame without FCS, up to 64 KiB. On the loop, or inside <see cref="INetQueue.Send"/>: an
    /// answer that is there at once.</summary>
    /// <returns>False: no room now; the backend keeps it, and those behind it within reason, until
    /// <see cref="INetQueue.Resume"/>.</returns>
    bool Receive(in NetHeader header, ReadOnlySpan<byte> frame);
}
