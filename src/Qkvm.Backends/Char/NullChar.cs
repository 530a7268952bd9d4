using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>Takes everything, gives nothing; also stands in for "none" and for a virtual console without a screen.</summary>
public sealed class NullChar(string id, string description = "null") : ICharBackend
{
    public string Id { get; } = id;
    public string Description { get; } = description;
    public bool IsOpen => true;
    public int Write(ReadOnlySpan<byte> data) => data.Length;
    public void Connect(ICharFrontend? frontend) => frontend?.Event(CharEvent.Opened);
    public void AcceptInput() { }
}
