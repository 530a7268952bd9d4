using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>logfile= of a character device: what the other end takes is copied into a file.</summary>
public sealed class LoggedChar(ICharBackend inner, string path, bool append, string owner) : ICharBackend, IDisposable
{
    readonly FileChar _log = new(inner.Id, path, append, owner);

    public string Id => inner.Id;
    public string Description => inner.Description;
    public ICharBackend Stream => inner.Stream;
    public bool IsOpen => inner.IsOpen;
    public (ushort Columns, ushort Rows)? WindowSize => inner.WindowSize;

    public int Write(ReadOnlySpan<byte> data)
    {
        int taken = inner.Write(data);
        _log.Write(data[..taken]);
        return taken;
    }

    public void Connect(ICharFrontend? frontend) => inner.Connect(frontend);
    public void AcceptInput() => inner.AcceptInput();
    public void HangUp() => inner.HangUp();
    public int TakeDescriptor() => inner.TakeDescriptor();
    public void SendBreak() => inner.SendBreak();

    public void Dispose()
    {
        _log.Dispose();
        (inner as IDisposable)?.Dispose();
    }
}
