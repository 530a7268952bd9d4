using System.Net.Sockets;
using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Drivers.Nbd;

/// <summary>Where an export is and how it is asked for.</summary>
/// <param name="Context">What block status is to be of.</param>
/// <param name="TlsHost">The server's name in its certificate; null where any will do.</param>
sealed record NbdTarget(SocketAddress Address, string Export, string Context, TlsCredentials? Credentials,
    string? TlsHost);

/// <summary>Keeps a connection to an export, and makes another where one is lost.</summary>
/// <param name="patience">How long requests wait for another connection; zero: they fail, and the next request tries
/// once.</param>
sealed class NbdLink(NbdTarget target, TimeSpan patience) : IDisposable
{
    static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(100), s_longestPause = TimeSpan.FromSeconds(1);

    readonly Lock _lock = new();
    readonly ManualResetEventSlim _end = new();
    volatile NbdChannel? _channel;
    Task<NbdChannel?>? _dialing;
    long _length;                                                  // of the export as it was at first
    bool _isReadOnly;
    long _lostAt;
    string _why = "";

    /// <summary>Requests that were under way when a connection ended are made again.</summary>
    public bool Repeats => patience > TimeSpan.Zero && !_end.IsSet;

    /// <summary>TLS is carried by threads of the pool, for which others of the pool wait that have something to send:
    /// there have to be enough, at once.</summary>
    static void MakeRoomForTls()
    {
        const int Enough = 32;
        ThreadPool.GetMinThreads(out int workers, out int completions);
        if (workers < Enough) ThreadPool.SetMinThreads(Enough, completions);
    }

    /// <summary>The first connection.</summary>
    /// <param name="limit">How long to try; zero for once.</param>
    /// <exception cref="ConfigurationException">Why there is none.</exception>
    public NbdExportInfo Open(TimeSpan limit)
    {
        if (target.Credentials != null) MakeRoomForTls();
        long end = Environment.TickCount64 + (long)limit.TotalMilliseconds;
        for (TimeSpan pause = s_firstPause; ; pause = Longer(pause))
            try
            {
                NbdChannel channel = Connect();
                (_length, _isReadOnly) = (channel.Info.Length, channel.Info.Has(NbdExportFlags.ReadOnly));
                _channel = channel;
                return channel.Info;
            }
            catch (ConfigurationException) when (Environment.TickCount64 < end) { Thread.Sleep(pause); }
    }

    /// <exception cref="BlockException">There is none, in spite of all patience.</exception>
    public ValueTask<NbdChannel> ChannelAsync() => _channel is { } channel ? new(channel) : DialAsync();

    public void Dispose()
    {
        _end.Set();
        NbdChannel? channel;
        lock (_lock)
        {
            channel = _channel;
            _channel = null;
        }
        channel?.Dispose();
    }

    async ValueTask<NbdChannel> DialAsync()
    {
        Task<NbdChannel?> dialing;
        lock (_lock)
        {
            if (_channel is { } channel) return channel;
            if (_dialing is not { IsCompleted: false }) _dialing = Task.Run(Dial);
            dialing = _dialing;
        }
        return await dialing.ConfigureAwait(false) ?? throw new BlockException($"NBD server: {_why}", Errno.Io);
    }

    NbdChannel? Dial()
    {
        for (TimeSpan pause = s_firstPause; ; pause = Longer(pause))
        {
            try
            {
                NbdChannel channel = Connect();
                NbdExportInfo info = channel.Info;
                bool isSame = info.Length == _length && info.Has(NbdExportFlags.ReadOnly) == _isReadOnly;
                lock (_lock)
                {
                    if (isSame && !_end.IsSet) return _channel = channel;
                }
                channel.Dispose();
                _why = "the export is another one now: it has another size";
            }
            catch (ConfigurationException e) { _why = e.Message; }
            long waited = Environment.TickCount64 - Volatile.Read(ref _lostAt);
            if (waited + pause.TotalMilliseconds > patience.TotalMilliseconds || _end.Wait(pause)) return null;
        }
    }

    static TimeSpan Longer(TimeSpan pause) => pause * 2 < s_longestPause ? pause * 2 : s_longestPause;

    NbdChannel Connect()
    {
        NbdClientHandshake handshake = Greet(target);
        try { return new NbdChannel(handshake, handshake.Go(target.Export, target.Context), OnLost); }
        catch
        {
            handshake.Dispose();
            throw;
        }
    }

    /// <summary>Connects to a server, up to where it can be asked for exports.</summary>
    /// <exception cref="ConfigurationException">It is not there, or not as it should be.</exception>
    public static NbdClientHandshake Greet(NbdTarget target)
    {
        NbdClientHandshake handshake;
        try { handshake = new NbdClientHandshake(Connector.Connect(target.Address)); }
        catch (HostException e)
        {
            throw new ConfigurationException($"Failed to connect to '{target.Address}': {Libc.Message(e.Errno)}", e);
        }
        catch (SocketException e)
        {
            string host = (target.Address as InternetAddress)?.Host ?? "";
            throw new ConfigurationException($"address resolution failed for {host}: {e.Message}", e);
        }
        try
        {
            handshake.Begin(target.Credentials, target.TlsHost);
            return handshake;
        }
        catch
        {
            handshake.Dispose();
            throw;
        }
    }

    void OnLost(NbdChannel lost)
    {
        lock (_lock)
        {
            if (_channel != lost) return;
            _channel = null;
            Volatile.Write(ref _lostAt, Environment.TickCount64);
        }
        // Its thread is the one that says so, and cannot wait for itself.
        if (!_end.IsSet) ThreadPool.UnsafeQueueUserWorkItem(static one => one.Dispose(), lost, preferLocal: false);
    }
}
