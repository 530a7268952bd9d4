using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>Takes everything, gives nothing; also stands in for "none" and for a virtual console without a
/// screen.</summary>
public sealed class NullChar(string id, string description = "null") : ICharBackend
{
    public static readonly CharModel Model = new("null", [], static (properties, _) =>
        new NullChar(properties.Required("id")))
    {
        Description = "takes all, gives nothing",
    };

    /// <summary>A text console inside a window: there is none yet, so what it would show goes nowhere.</summary>
    public static readonly CharModel VirtualConsole = new("vc",
        [.. new[] { "width", "height", "cols", "rows" }.Select(name => Property.Number(name, 0, max: 65535,
            help: "taken, no effect"))],
        static (properties, _) => new NullChar(properties.Required("id"),
            VirtualConsole!.Name)) { Description = "a console in a window: takes all, shows nothing yet" };

    public string Id { get; } = id;
    public string Description { get; } = description;
    public bool IsOpen => true;
    public int Write(ReadOnlySpan<byte> data) => data.Length;
    public void Connect(ICharFrontend? frontend) => frontend?.Event(CharEvent.Opened);
    public void AcceptInput() { }
}
