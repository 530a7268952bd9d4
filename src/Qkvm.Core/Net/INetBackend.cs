namespace Qkvm.Core.Net;

/// <summary>The host side of a network device: tap, user, socket. Under the machine lock; nothing blocks.</summary>
public interface INetBackend
{
    string Id { get; }
    string Description { get; }

    /// <summary>Sends one Ethernet frame without FCS; drops it if the host cannot take it now.</summary>
    void Send(ReadOnlySpan<byte> frame);

    void Connect(INetFrontend? frontend);

    /// <summary>The frontend <see cref="INetFrontend.CanReceive"/> again.</summary>
    void AcceptInput();
}

/// <summary>The guest side: a network card.</summary>
public interface INetFrontend
{
    /// <summary>False makes the backend hold frames back (within its buffer) until AcceptInput.</summary>
    bool CanReceive { get; }

    /// <summary>One Ethernet frame without FCS.</summary>
    void Receive(ReadOnlySpan<byte> frame);
}
