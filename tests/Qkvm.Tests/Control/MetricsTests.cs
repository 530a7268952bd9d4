using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Qkvm.Control.Metrics;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;

namespace Qkvm.Tests.Control;

/// <summary>-metrics: what a scraper reads of a machine, and who gets nothing.</summary>
public sealed class MetricsTests : IDisposable
{
    static readonly TimeSpan s_hang = TimeSpan.FromMinutes(1);     // no assertion: the end of a test without one

    readonly ControlBench _bench = new();
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-metrics-").FullName;

    string SocketPath => Path.Combine(_directory, "metrics");

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    string Text() => _bench.OnLoop(() => MetricText.Write(MetricCatalogue.All, _bench.Context));

    [Fact]
    public void Each_metric_follows_the_names_and_lines_of_prometheus()
    {
        Assert.All(MetricCatalogue.All, metric =>
        {
            Assert.Matches("^(qkvm|process)_[a-z_]+$", metric.Name);
            Assert.Matches("^[A-Z1].*\\.$", metric.Help);
            Assert.Equal(metric.Kind == MetricKind.Counter, metric.Name.EndsWith("_total", StringComparison.Ordinal));
        });
        Assert.Distinct(MetricCatalogue.All.Select(metric => metric.Name));
        foreach (string line in Text().TrimEnd('\n').Split('\n'))
            Assert.Matches("^(# HELP [a-z_]+ .+|# TYPE [a-z_]+ (counter|gauge)"
                + "|[a-z_]+(\\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\\})? [0-9.E+-]+)$", line);
    }

    [Fact]
    public void A_machine_tells_what_it_is_and_does()
    {
        string text = Text();
        Assert.Contains($"qkvm_info{{version=\"{Qkvm.Control.Commands.ProgramVersion.Text}\",name=\"bench\","
            + "machine=\"pc-i440fx-7.2\",accelerator=\"", text);
        Assert.Contains("\nqkvm_state{state=\"prelaunch\"} 1\n", text);
        Assert.Contains("\nqkvm_state{state=\"running\"} 0\n", text);
        Assert.Contains($"\nqkvm_memory_bytes {16 << 20}\n", text);
        Assert.Contains("\nqkvm_balloon_bytes 0\n", text);
        Assert.Contains("\nqkvm_disk_bytes_total{drive=\"disk\",operation=\"write\"} 0\n", text);
        Assert.Matches("qkvm_vcpu_seconds_total\\{vcpu=\"1\"\\} ", text);
        Assert.DoesNotContain("qkvm_job_done", text);              // there is none
    }

    [Fact]
    public void Frames_are_counted_as_long_as_the_netdev_lives()
    {
        _bench.OnLoop(() => _bench.Host.Add(new NetdevConfig("n", "hubport",
            Options.Parse("id=n,hubid=1", "-netdev hubport"))));
        _bench.OnLoop(() => _bench.Host.Add(new NetdevConfig("m", "hubport",
            Options.Parse("id=m,hubid=1", "-netdev hubport"))));
        var receiver = new Port();
        INetQueue Open(string netdev, INetPort port) => _bench.OnLoop(() =>
            _bench.Backends.Netdevs[netdev].Link.Open(0, port, _bench.Environment.Loop));
        INetQueue here = Open("n", new Port()), there = Open("m", receiver);
        _bench.OnLoop(() =>
        {
            here.Send(default, new ScatterList(new byte[60]));
            here.Send(default, new ScatterList(new byte[100]));
        });
        Assert.Equal(2, _bench.OnLoop(() => receiver.Frames));     // hubs pass frames on on the loop
        _bench.OnLoop(here.Dispose);
        _bench.OnLoop(there.Dispose);
        string text = Text();                                      // both cards are gone
        Assert.Contains("qkvm_network_frames_total{netdev=\"n\",direction=\"from_guest\"} 2\n", text);
        Assert.Contains("qkvm_network_bytes_total{netdev=\"n\",direction=\"from_guest\"} 160\n", text);
        Assert.Contains("qkvm_network_bytes_total{netdev=\"m\",direction=\"to_guest\"} 160\n", text);
        Assert.Contains("qkvm_network_frames_total{netdev=\"m\",direction=\"from_guest\"} 0\n", text);
        Assert.Contains("qkvm_network_up{netdev=\"m\"} 1\n", text);
    }

    [Fact]
    public void The_page_and_the_dashboard_name_them()
    {
        string page = File.ReadAllText(Path.Combine(Sources.Root, "docs/monitoring.md"));
        Assert.All(MetricCatalogue.All, metric => Assert.Contains($"| `{metric.Name}` |", page));
        string dashboard = File.ReadAllText(Path.Combine(Sources.Root, "docs/monitoring/grafana.json"));
        string[] used = [.. Regex.Matches(dashboard, "(?<![A-Za-z_])(qkvm|process)_[a-z_]+").Select(one => one.Value)];
        Assert.NotEmpty(used);
        Assert.All(used, name => Assert.Contains(MetricCatalogue.All, metric => metric.Name == name));
    }

    [Fact]
    public void Names_of_the_users_are_quoted()
    {
        var odd = new Metric("qkvm_odd", MetricKind.Gauge, "Odd.",
            static _ => [new(0.5, ("name", "a\"b\\c\nd"))]);
        Assert.Equal("# HELP qkvm_odd Odd.\n# TYPE qkvm_odd gauge\nqkvm_odd{name=\"a\\\"b\\\\c\\nd\"} 0.5\n",
            MetricText.Write([odd], _bench.Context));
    }

    [Theory]
    [InlineData("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n")]
    [InlineData("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n")]
    [InlineData("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n")]
    [InlineData("GET /metrics HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n")]
    [InlineData("\0\u0001\u0002\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n")]
    public void A_scraper_gets_them_and_others_nothing(string request, string status)
    {
        var server = _bench.OnLoop(() => new MetricsServer($"unix:{SocketPath}", "-metrics", _bench.Context));
        string answer = Ask(request);
        Assert.StartsWith(status, answer);
        bool isGood = status.Contains("200");
        Assert.Equal(isGood, answer.Contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        Assert.Equal(isGood, answer.Contains("\nqkvm_info{"));
        Match length = Regex.Match(answer, "Content-Length: (\\d+)\r\n");
        Assert.Equal(int.Parse(length.Groups[1].Value), answer.Length - answer.IndexOf("\r\n\r\n") - 4);
        _bench.OnLoop(server.Dispose);
        Assert.False(File.Exists(SocketPath));
    }

    string Ask(string request)
    {
        using var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        client.ReceiveTimeout = (int)s_hang.TotalMilliseconds;
        client.Connect(new UnixDomainSocketEndPoint(SocketPath));
        client.Send(Encoding.Latin1.GetBytes(request));
        using var all = new MemoryStream();
        var buffer = new byte[4096];
        for (int count; (count = client.Receive(buffer)) > 0;) all.Write(buffer, 0, count);
        return Encoding.UTF8.GetString(all.ToArray());
    }

    [Theory]
    [InlineData("")] [InlineData("9177")] [InlineData("tcp:9177")] [InlineData("tcp:localhost:web")]
    [InlineData("unix:")] [InlineData("udp:localhost:1")]
    public void Other_addresses_are_refused(string address) =>
        Assert.Equal("-metrics: expects unix:PATH or tcp:HOST:PORT, such as tcp:127.0.0.1:9177",
            Assert.Throws<ConfigurationException>(() => MetricsServer.Parse(address, "-metrics")).Message);

    sealed class Port : INetPort
    {
        public int Frames { get; private set; }

        public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
        {
            Frames++;
            return true;
        }
    }
}
