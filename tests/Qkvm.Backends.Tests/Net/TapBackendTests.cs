using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Qkvm.Backends.Net;
using Qkvm.Core.Devices;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Net;

/// <summary>Each test has a thread in a network namespace of its own, so that the host's interfaces are left
/// alone.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed partial class TapBackendTests : IDisposable
{
    readonly string _folder = Directory.CreateTempSubdirectory("tap").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [TapFact]
    public void Frames_pass_in_both_directions() => InNamespace(loop =>
    {
        string up = Script("up", "/sbin/ip addr add 10.9.0.1/24 dev \"$1\" && /sbin/ip link set \"$1\" up && echo " +
            "\"$1\" > " + _folder + "/up.txt");
        string down = Script("down", "echo \"$1\" > " + _folder + "/down.txt");
        var card = new Card(loop);
        var tap = new TapBackend("-netdev tap", new TapOptions("net0", "qkvm0", up, down), loop);
        tap.Connect(card);
        Assert.Equal("qkvm0", File.ReadAllText(_folder + "/up.txt").Trim());
        Assert.Equal($"index=0,type=tap,ifname=qkvm0,script={up},downscript={down}", tap.Description);

        // A datagram to a neighbour makes the kernel ask for its address: an ARP request comes out of the interface.
        using (var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp))
            socket.SendTo([1], new IPEndPoint(IPAddress.Parse("10.9.0.2"), 9));
        // the end of a test that would never end
        using (new Timer(_ => loop.Stop(), null, dueTime: 30_000, Timeout.Infinite)) loop.Run();
        Assert.NotNull(card.Arp);
        Assert.Equal([10, 9, 0, 2], card.Arp[38..42]);

        long before = Statistics("qkvm0").Rx;
        var frame = new byte[60];
        frame.AsSpan(0, 6).Fill(0xFF);
        tap.Send(frame);
        Assert.Equal(before + 1, Statistics("qkvm0").Rx);
        Assert.Equal(0, tap.Dropped);

        tap.Dispose();
        Assert.Equal("qkvm0", File.ReadAllText(_folder + "/down.txt").Trim());
        Assert.DoesNotContain("qkvm0", File.ReadAllText("/proc/thread-self/net/dev"));
    });

    [TapFact]
    public void The_kernel_numbers_an_interface_without_a_name() => InNamespace(loop =>
    {
        using var tap = new TapBackend("-netdev tap", new TapOptions("net0", Script: "no", DownScript: "no"), loop);
        Assert.Equal("tap0", tap.InterfaceName);
    });

    [TapFact]
    public void A_failing_script_is_reported_with_its_status_and_its_words() => InNamespace(loop =>
    {
        string script = Script("up", "echo no bridge called br0 >&2; exit 3");
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap,id=n", new TapOptions("n", Script: script, DownScript: "no"), loop));
        Assert.Equal($"-netdev tap,id=n: network script {script} failed with status 3: no bridge called br0; give " +
            "script=no for none", error.Message);
        Assert.DoesNotContain("tap0", File.ReadAllText("/proc/thread-self/net/dev"));
    });

    [TapFact]
    public void A_missing_script_is_reported() => InNamespace(loop =>
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", Script: _folder + "/none"), loop));
        Assert.Contains($"network script {_folder}/none does not exist", error.Message);
    });

    [TapFact]
    public void An_interface_in_use_is_busy() => InNamespace(loop =>
    {
        using var first = new TapBackend("-netdev tap", new TapOptions("a", "qkvm0", "no", "no"), loop);
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap,id=b", new TapOptions("b", "qkvm0", "no", "no"), loop));
        Assert.Contains("Device or resource busy; another program uses qkvm0", error.Message);
    });

    [TapFact]
    public void An_interface_of_another_kind_is_refused() => InNamespace(loop =>
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", "lo", "no", "no"), loop));
        Assert.Contains("lo exists and is no tap interface", error.Message);
    });

    [Fact]
    public void A_name_that_is_too_long_is_refused()
    {
        using var loop = new EventLoop(work => work());
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", "abcdefghijklmnop"), loop));
        Assert.Contains("1 to 15 characters", error.Message);
    }

    [Fact]
    public void A_descriptor_that_is_no_tap_is_refused()
    {
        using var loop = new EventLoop(work => work());
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", Fd: 9999), loop));
        Assert.Contains("fd=9999 is no tap interface", error.Message);
    }

    string Script(string name, string body)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, "#!/bin/sh\n" + body + "\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return path;
    }

    static (long Rx, long Tx) Statistics(string name)
    {
        string line = File.ReadLines("/proc/thread-self/net/dev").Single(l => l.TrimStart().StartsWith(name + ":"));
        string[] fields = line[(line.IndexOf(':') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return (long.Parse(fields[1]), long.Parse(fields[9]));
    }

    static void InNamespace(Action<EventLoop> test)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            const int NewNetwork = 0x40000000;
            try
            {
                if (unshare(NewNetwork) != 0)
                    throw new HostException("cannot make a network namespace", Marshal.GetLastPInvokeError());
                using var loop = new EventLoop(work => work());
                test(loop);
            }
            catch (Exception e) { failure = e; }
        });
        thread.Start();
        thread.Join();
        if (failure != null) System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unshare(int flags);

    sealed class Card(EventLoop loop) : INetFrontend
    {
        public byte[]? Arp { get; private set; }
        public bool CanReceive => Arp == null;

        public void Receive(ReadOnlySpan<byte> frame)
        {
            if (frame.Length < 42 || frame[12] != 8 || frame[13] != 6) return;
            Arp = frame.ToArray();
            loop.Stop();
        }
    }
}
