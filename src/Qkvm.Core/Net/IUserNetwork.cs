namespace Qkvm.Core.Net;

public enum UserProtocol { Tcp, Udp, Icmp }

/// <summary>A line of `info usernet`.</summary>
/// <param name="State">Of TCP as RFC 9293 names it, "HOST_FORWARD" for a port that waits; of others the time until it
/// is forgotten.</param>
/// <param name="Source">Where it comes from; "*" for any address.</param>
/// <param name="DestinationPort">Null: it has none.</param>
/// <param name="ToHost">Bytes that wait for the host's side.</param>
/// <param name="ToGuest">Bytes that wait for the guest.</param>
public sealed record UserConnection(UserProtocol Protocol, string State, int Fd, string Source, ushort SourcePort,
    string Destination, ushort? DestinationPort, int ToHost, int ToGuest);

/// <summary>A network backend whose connections are this process' own. Under the machine lock.</summary>
public interface IUserNetwork
{
    string Id { get; }

    /// <summary>Forwards one more port: "tcp:127.0.0.1:2222-:22".</summary>
    /// <exception cref="ConfigurationException">It is no rule, or the port cannot be had.</exception>
    void AddForward(string rule);

    /// <summary>Ends a forwarded port, but none of its connections.</summary>
    /// <param name="hostSide">"tcp:127.0.0.1:2222".</param>
    /// <returns>False: there is no such one.</returns>
    /// <exception cref="FormatException">It is no side of a rule.</exception>
    bool RemoveForward(string hostSide);

    IReadOnlyList<UserConnection> Connections { get; }
}
