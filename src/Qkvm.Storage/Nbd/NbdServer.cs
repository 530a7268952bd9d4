using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Nbd;

/// <param name="MaxConnections">Clients at one time; others wait. 0 for any number.</param>
/// <param name="Credentials">All clients have to use TLS; null: none can.</param>
public sealed record NbdServerOptions(int MaxConnections = 0, TlsCredentials? Credentials = null)
{
    /// <summary>A client that has not chosen its export by then is disconnected.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(10);
}

/// <summary>Serves nodes to other programs. Spec: NBD's doc/proto.md, fixed newstyle.</summary>
/// <remarks>Listens on a loop; each client has threads of its own. Members are called on any thread, but for Start and
/// Dispose, which are of the loop.</remarks>
public sealed class NbdServer : IDisposable
{
    readonly EventLoop _loop;
    readonly Listener _listener;
    readonly List<NbdExport> _exports = [];                        // within its own lock, as are the sessions
    readonly HashSet<NbdSession> _sessions = [];
    bool _isDisposed;

    /// <exception cref="HostException">The address is in use, not ours …</exception>
    /// <exception cref="System.Net.Sockets.SocketException">A name that does not resolve.</exception>
    public NbdServer(SocketAddress address, EventLoop loop, NbdServerOptions options)
    {
        (_loop, Options) = (loop, options);
        _listener = new Listener(address, loop, OnClient, backlog: 128);
    }

    public NbdServerOptions Options { get; }

    /// <summary>Where it listens.</summary>
    public IReadOnlyList<SocketName> Names => _listener.Names;

    public IReadOnlyList<NbdExport> Exports { get { lock (_exports) return [.. _exports]; } }

    /// <summary>A client has gone, and how many are left; the other is whether it had come to use an export. On the
    /// loop.</summary>
    public Action<int, bool>? ClientLeft { get; set; }

    /// <summary>Takes clients from now on.</summary>
    public void Start() => _listener.Start();

    public NbdExport? Find(string name)
    {
        lock (_exports) return _exports.Find(export => export.Name == name);
    }

    /// <returns>False: there is one of that name.</returns>
    public bool Add(NbdExport export)
    {
        lock (_exports)
        {
            if (_exports.Exists(one => one.Name == export.Name)) return false;
            _exports.Add(export);
            return true;
        }
    }

    /// <summary>No new client finds it; those that it has stay.</summary>
    public void Remove(NbdExport export) { lock (_exports) _exports.Remove(export); }

    /// <summary>Stops listening and hangs up on all clients; exports are their makers' to close.</summary>
    public void Dispose()
    {
        _isDisposed = true;
        _listener.Dispose();
        NbdSession[] sessions;
        lock (_sessions) sessions = [.. _sessions];
        foreach (NbdSession session in sessions) session.HangUp();
    }

    internal void Left(NbdSession session, bool wasServed)
    {
        int left;
        lock (_sessions)
        {
            _sessions.Remove(session);
            left = _sessions.Count;
        }
        _loop.Post(() =>
        {
            if (!_isDisposed) _listener.Start();
            ClientLeft?.Invoke(left, wasServed);
        });
    }

    void OnClient(StreamSocket socket)
    {
        lock (_sessions)
        {
            _sessions.Add(new NbdSession(this, socket));
            if (_sessions.Count == Options.MaxConnections) _listener.Stop();
        }
    }
}
