namespace Qkvm.Core.Net;

/// <summary>What a monitor asks of a network card, of whatever kind. Under the machine lock.</summary>
public interface INetCard
{
    /// <summary>Where its cable leads; null: nowhere.</summary>
    NetBackend? Backend { get; }

    /// <summary>Its address now, 6 bytes; the guest may change it.</summary>
    ReadOnlySpan<byte> Mac { get; }

    /// <summary>Plugs or pulls the cable; the guest is told.</summary>
    void SetLink(bool up);

    /// <summary>Sends a <see cref="SelfAnnouncement"/>, and has the driver announce its addresses if it
    /// can.</summary>
    void Announce();

    /// <summary>Which frames pass; null: a card that does not tell. The next change raises one event.</summary>
    ReceiveFilter? QueryFilter() => null;
}
