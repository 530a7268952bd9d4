using Qkvm.Core.Net;

namespace Qkvm.Tests.Extending;

/// <summary>-netdev loop: a plug that leads each frame back into the card.</summary>
public sealed class LoopNet(string id) : INetBackend
{
    public static readonly NetModel Model = new("loop", [],
        static (properties, _) => new LoopNet(properties.Required("id")));

    INetFrontend? _card;

    public string Id { get; } = id;
    public string Description => Model.Name;

    public void Send(ReadOnlySpan<byte> frame)
    {
        if (_card is { CanReceive: true }) _card.Receive(frame);
    }

    public void Connect(INetFrontend? frontend) => _card = frontend;
    public void AcceptInput() { }
}
