namespace Qkvm.Core.Net;

/// <summary>A netdev that is a place at a hub.</summary>
public interface IHubPort
{
    string Id { get; }
    int HubId { get; }

    /// <summary>The backend that is plugged in; null for a place for a card.</summary>
    string? NetdevId { get; }
}
