using Qkvm.Core.Char;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>What all character backends over a byte stream share: one connection at a time, and input that waits for
/// the frontend's room.</summary>
/// <remarks>Under the machine lock; the stream never blocks.</remarks>
public abstract class StreamChar(string id, EventLoop loop) : ICharBackend, IConnectionUser
{
    Connection? _connection;
    bool _isReady;

    public string Id { get; } = id;
    public abstract string Description { get; }
    public bool IsOpen => _connection != null && _isReady;

    public virtual string? ExposedAt => null;
    public virtual (ushort Columns, ushort Rows)? WindowSize => null;

    protected EventLoop Loop { get; } = loop;
    protected ICharFrontend? Frontend { get; private set; }

    /// <summary>The other end has gone.</summary>
    protected abstract void OnHangUp();

    /// <summary>Received bytes on their way to the frontend, in place: a protocol may take some out. Returns how many
    /// remain.</summary>
    protected virtual int Filter(Span<byte> data) => data.Length;

    public virtual int Write(ReadOnlySpan<byte> data) => IsOpen ? _connection!.Write(data) : data.Length;

    public virtual void Connect(ICharFrontend? frontend)
    {
        Frontend = frontend;
        if (frontend != null && IsOpen) frontend.Event(CharEvent.Opened);
        AcceptInput();
    }

    public void AcceptInput() => _connection?.AcceptInput();

    public int TakeDescriptor() => _connection?.Transport.TakeDescriptor() ?? -1;

    public void HangUp()
    {
        Connection? ending = _connection;
        Loop.Post(() =>
        {
            if (_connection != ending || ending == null) return;
            ending.Dispose();
            ((IConnectionUser)this).Closed();
        });
    }

    /// <summary>Somebody is at the other end; takes the transport over.</summary>
    /// <param name="isReady">False: a handshake comes first, and then <see cref="Ready"/>; until then what is written
    /// is lost.</param>
    protected void Open(ITransport transport, bool isReady = true)
    {
        _isReady = isReady;
        _connection = new Connection(transport, Loop, this);
        AcceptInput();
        if (isReady) Frontend?.Event(CharEvent.Opened);
    }

    /// <summary>The handshake is over.</summary>
    protected virtual void Ready()
    {
        _isReady = true;
        Frontend?.Event(CharEvent.Opened);
    }

    /// <summary>There is a connection whose handshake is not over.</summary>
    protected bool IsHandshaking => _connection != null && !_isReady;

    /// <summary>Ends the connection from our side. Nobody is told.</summary>
    protected void Detach()
    {
        _connection?.Dispose();
        _connection = null;
    }

    /// <summary>Gives the connection to somebody else.</summary>
    protected ITransport? Release()
    {
        ITransport? released = _connection?.Release();
        _connection = null;
        return released;
    }

    /// <summary>A handshake is made by reading. False: elsewhere, and what can be read waits for its end.</summary>
    protected virtual bool HandshakeReads => true;

    int IConnectionUser.Room => _isReady ? Frontend?.Room ?? 0 : HandshakeReads ? 1 : 0; // a handshake takes none of it

    void IConnectionUser.Receive(Span<byte> data)
    {
        int kept = Filter(data);
        if (kept > 0) Frontend?.Receive(data[..kept]);
    }

    void IConnectionUser.Writable() => Frontend?.Writable();

    void IConnectionUser.Closed()
    {
        bool wasOpen = IsOpen;
        _connection = null;
        OnHangUp();
        if (wasOpen) Frontend?.Event(CharEvent.Closed);
    }
}
