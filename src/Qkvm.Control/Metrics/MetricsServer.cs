using System.Net.Sockets;
using System.Text;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Control.Metrics;

/// <summary>-metrics: /metrics by HTTP for Prometheus and its like. Nothing can be changed through it.</summary>
/// <remarks>Main loop, under the machine lock.</remarks>
public sealed class MetricsServer : IDisposable
{
    const string Path = "/metrics", Unix = "unix:", Tcp = "tcp:";
    const int MaxDoors = 16;                                       // clients at once; more are turned away

    static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    readonly CommandContext _context;
    readonly Listener _listener;
    readonly HashSet<HttpDoor> _doors = [];

    /// <param name="address">As <see cref="Parse"/> takes it.</param>
    /// <exception cref="ConfigurationException">Nothing can listen there.</exception>
    public MetricsServer(string address, string owner, CommandContext context)
    {
        _context = context;
        try { _listener = new Listener(Parse(address, owner), context.Host.Loop, Accept); }
        catch (Exception e) when (e is HostException or SocketException)
        {
            throw new ConfigurationException($"{owner}: {e.Message}", e);
        }
        _listener.Start();
    }

    /// <summary>Where it listens; the port that was chosen for port 0.</summary>
    public IReadOnlyList<SocketName> Names => _listener.Names;

    /// <param name="address">unix:PATH or tcp:[HOST]:PORT.</param>
    public static SocketAddress Parse(string address, string owner)
    {
        if (address.StartsWith(Unix, StringComparison.Ordinal) && address.Length > Unix.Length)
            return new UnixAddress(address[Unix.Length..]);
        if (address.StartsWith(Tcp, StringComparison.Ordinal) && address.LastIndexOf(':') is var colon
            && colon >= Tcp.Length && ushort.TryParse(address.AsSpan(colon + 1), out ushort port))
            return new InternetAddress(address[Tcp.Length..colon].Trim('[', ']'), port);
        throw new ConfigurationException($"{owner}: expects unix:PATH or tcp:HOST:PORT, such as tcp:127.0.0.1:9177");
    }

    public void Dispose()
    {
        _listener.Dispose();
        foreach (HttpDoor door in _doors.ToArray()) door.Dispose();
    }

    void Accept(StreamSocket client)
    {
        if (_doors.Count >= MaxDoors) { client.Dispose(); return; }
        _doors.Add(new HttpDoor(client, _context.Host.Loop, s_patience, Find, static _ => false,
            static opened => opened.Dispose(), door => _doors.Remove(door)));
    }

    HttpFile? Find(string path) => path != Path ? null : new HttpFile(MetricText.ContentType,
        Encoding.UTF8.GetBytes(MetricText.Write(MetricCatalogue.All, _context)));
}
