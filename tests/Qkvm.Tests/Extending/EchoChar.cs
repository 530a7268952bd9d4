using Qkvm.Core.Char;

namespace Qkvm.Tests.Extending;

/// <summary>-chardev echo: what the guest writes comes back to it.</summary>
public sealed class EchoChar(string id) : ICharBackend
{
    public static readonly CharModel Model = new("echo", [],
        static (properties, _) => new EchoChar(properties.Required("id"))) { Description = "gives back what it gets" };

    ICharFrontend? _frontend;

    public string Id { get; } = id;
    public string Description => Model.Name;
    public bool IsOpen => true;

    public int Write(ReadOnlySpan<byte> data)
    {
        int taken = Math.Min(data.Length, _frontend?.Room ?? 0);
        if (taken > 0) _frontend!.Receive(data[..taken]);
        return taken;                                              // the rest is offered again
    }

    public void Connect(ICharFrontend? frontend) => (_frontend = frontend)?.Event(CharEvent.Opened);
    public void AcceptInput() => _frontend?.Writable();
}
