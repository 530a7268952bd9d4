namespace Qkvm.Core.Char;

public enum CharEvent { Opened, Closed, Break, MuxIn, MuxOut, Resized }

/// <summary>The host side of a character device: stdio, pty, socket, file … All under the machine lock; nothing
/// blocks.</summary>
public interface ICharBackend
{
    string Id { get; }

    /// <summary>"stdio", "pty:/dev/pts/3" or "telnet:127.0.0.1:3333,server=on", for `info chardev`.</summary>
    string Description { get; }

    /// <summary>What really reads and writes, where this one only looks on.</summary>
    ICharBackend Stream => this;

    /// <summary>Where it listens for clients of other hosts, such as "0.0.0.0:3333"; null where none can
    /// come.</summary>
    string? ExposedAt => null;

    /// <summary>Somebody listens at the other end.</summary>
    bool IsOpen { get; }

    /// <summary>Of the terminal at the other end, in characters; null where it is none.</summary>
    /// <remarks>A change is told by <see cref="CharEvent.Resized"/>.</remarks>
    (ushort Columns, ushort Rows)? WindowSize => null;

    /// <summary>Whoever is attached takes what comes, as far as this one knows.</summary>
    bool IsFrontendOpen => true;

    /// <summary>Takes as many bytes as its buffer holds and returns their number. Discards all while not
    /// open.</summary>
    int Write(ReadOnlySpan<byte> data);

    /// <summary>Attaches the one frontend (a mux takes several), or detaches with null.</summary>
    void Connect(ICharFrontend? frontend);

    /// <summary>A descriptor that came with what was received last, which is the caller's from now on, or -1.</summary>
    int TakeDescriptor() => -1;

    /// <summary>Ends the connection, soon and as if the other end had; nothing where there is none to end.</summary>
    void HangUp() { }

    /// <summary>The frontend sees a break, as if the other end had sent one.</summary>
    void SendBreak() { }

    /// <summary>The frontend has <see cref="ICharFrontend.Room"/> again after it had none.</summary>
    void AcceptInput();
}

/// <summary>The guest side: a UART, a console, a monitor. All under the machine lock.</summary>
public interface ICharFrontend
{
    /// <summary>Bytes it can take now; 0 makes the backend wait for <see cref="ICharBackend.AcceptInput"/>.</summary>
    int Room { get; }

    /// <summary>The guest listens, where that can be known.</summary>
    bool IsOpen => true;

    /// <summary>At most <see cref="Room"/> bytes.</summary>
    void Receive(ReadOnlySpan<byte> data);

    void Event(CharEvent what) { }

    /// <summary>After a short Write: the backend has room again.</summary>
    void Writable() { }
}

/// <summary>A backend that keeps what was written to it, for a monitor to read.</summary>
public interface IKeptOutput
{
    /// <summary>The oldest bytes that were kept and not read yet.</summary>
    byte[] Read(int most);
}
