using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>Takes everything, gives nothing; also stands in for "none".</summary>
public sealed class NullChar(string id, string description = "null") : ICharBackend
{
    public static readonly CharModel Model = new("null", [], static (properties, _) =>
        new NullChar(properties.Required("id")))
    {
        Description = "takes all, gives nothing",
    };

    public string Id { get; } = id;
    public string Description { get; } = description;
    public bool IsOpen => true;
    public int Write(ReadOnlySpan<byte> data) => data.Length;
    public void Connect(ICharFrontend? frontend) => frontend?.Event(CharEvent.Opened);
    public void AcceptInput() { }
}
