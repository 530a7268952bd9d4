using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>A character device in whose place another can come while its frontend stays: chardev-change. Under the
/// machine lock.</summary>
public sealed class ChangeableChar(ICharBackend inner) : ICharBackend
{
    ICharFrontend? _frontend;

    public string Id => Inner.Id;
    public string Description => Inner.Description;
    public ICharBackend Stream => Inner.Stream;
    public bool IsOpen => Inner.IsOpen;
    public (ushort Columns, ushort Rows)? WindowSize => Inner.WindowSize;
    public bool IsFrontendOpen => _frontend is { IsOpen: true };

    /// <summary>What it is now.</summary>
    public ICharBackend Inner { get; private set; } = inner;

    /// <summary>The frontend sees one connection end and, if the other is open, another begin.</summary>
    public void ChangeTo(ICharBackend other)
    {
        bool wasOpen = Inner.IsOpen;
        Inner.Connect(null);
        if (wasOpen) _frontend?.Event(CharEvent.Closed);
        Inner = other;
        if (_frontend == null) return;
        Inner.Connect(_frontend);
        _frontend.Event(CharEvent.Resized);
        _frontend.Writable();                                      // what waited for the old one's room
    }

    public int Write(ReadOnlySpan<byte> data) => Inner.Write(data);
    public void Connect(ICharFrontend? frontend) => Inner.Connect(_frontend = frontend);
    public void SendBreak() => _frontend?.Event(CharEvent.Break);
    public void AcceptInput() => Inner.AcceptInput();
    public void HangUp() => Inner.HangUp();
    public int TakeDescriptor() => Inner.TakeDescriptor();
}
