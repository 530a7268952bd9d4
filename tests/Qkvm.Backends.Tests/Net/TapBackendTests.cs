using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Qkvm.Backends.Net;
using Qkvm.Core.Block;
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
        var card = new Card();
        var tap = new TapBackend("-netdev tap", new TapOptions("net0", "qkvm0", up, down));
        INetQueue queue = tap.Open(0, card, loop);
        Assert.Equal("qkvm0", File.ReadAllText(_folder + "/up.txt").Trim());
        Assert.Equal($"index=0,type=tap,ifname=qkvm0,script={up},downscript={down}", tap.Description);

        // A datagram to a neighbour makes the kernel ask for its address: an ARP request comes out of the interface.
        using (var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp))
            socket.SendTo([1], new IPEndPoint(IPAddress.Parse("10.9.0.2"), 9));
        // the end of a test that would never end
        byte[] arp = card.Next(IsArp).Frame;
        Assert.Equal([10, 9, 0, 2], arp[38..42]);

        long before = Statistics("qkvm0").Rx;
        var frame = new byte[60];
        frame.AsSpan(0, 6).Fill(0xFF);
        queue.Send(default, new ScatterList(frame));
        Assert.Equal(before + 1, Statistics("qkvm0").Rx);
        Assert.Equal(0, tap.Dropped);

        tap.Dispose();
        Assert.Equal("qkvm0", File.ReadAllText(_folder + "/down.txt").Trim());
        Assert.DoesNotContain("qkvm0", File.ReadAllText("/proc/thread-self/net/dev"));
    });

    [TapFact]
    public void The_kernel_numbers_an_interface_without_a_name() => InNamespace(loop =>
    {
        using var tap = new TapBackend("-netdev tap", new TapOptions("net0", Script: "no", DownScript: "no"));
        Assert.Equal("tap0", tap.InterfaceName);
    });

    [TapFact]
    public void A_failing_script_is_reported_with_its_status_and_its_words() => InNamespace(loop =>
    {
        string script = Script("up", "echo no bridge called br0 >&2; exit 3");
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap,id=n", new TapOptions("n", Script: script, DownScript: "no")));
        Assert.Equal($"-netdev tap,id=n: network script {script} failed with status 3: no bridge called br0; give " +
            "script=no for none", error.Message);
        Assert.DoesNotContain("tap0", File.ReadAllText("/proc/thread-self/net/dev"));
    });

    [TapFact]
    public void The_scripts_that_come_with_it_put_the_interface_into_a_bridge() => InNamespace(loop =>
    {
        string scripts = Scripts();
        TapBackend Open() => new("-netdev tap,id=n", new TapOptions("n", "qkvm0", scripts + "/qemu-ifup",
            scripts + "/qemu-ifdown"));
        Assert.Equal($"-netdev tap,id=n: network script {scripts}/qemu-ifup failed with status 1: there is no bridge "
            + "br0: ip link add br0 type bridge && ip link set br0 up; give script=no for none",
            Assert.Throws<ConfigurationException>(Open).Message);
        string bridge = Script("bridge", "/sbin/ip link add br0 type bridge");
        using (new TapBackend("-netdev tap", new TapOptions("m", Script: bridge, DownScript: "no")))
        {
            using TapBackend tap = Open();
            string look = Script("look", "/sbin/ip link show qkvm0 | grep -q 'master br0'");
            using var other = new TapBackend("-netdev tap", new TapOptions("o", Script: look, DownScript: "no"));
        }
    });

    static string Scripts()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder != null && !File.Exists(folder + "/scripts/qemu-ifup")) folder = Path.GetDirectoryName(folder);
        return folder + "/scripts";
    }

    [TapFact]
    public void A_missing_script_is_reported() => InNamespace(loop =>
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", Script: _folder + "/none")));
        Assert.Contains($"network script {_folder}/none does not exist", error.Message);
    });

    [TapFact]
    public void An_interface_in_use_is_busy() => InNamespace(loop =>
    {
        using var first = new TapBackend("-netdev tap", new TapOptions("a", "qkvm0", "no", "no"));
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap,id=b", new TapOptions("b", "qkvm0", "no", "no")));
        Assert.Contains("Device or resource busy; another program uses qkvm0", error.Message);
    });

    [TapFact]
    public void An_interface_of_another_kind_is_refused() => InNamespace(loop =>
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", "lo", "no", "no")));
        Assert.Contains("lo exists and is no tap interface", error.Message);
    });

    [Fact]
    public void A_name_that_is_too_long_is_refused()
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", "abcdefghijklmnop")));
        Assert.Contains("1 to 15 characters", error.Message);
    }

    [Fact]
    public void A_descriptor_that_is_no_tap_is_refused()
    {
        var error =
            Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev tap", new TapOptions("n", Fds: [9999])));
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

    static void InNamespace(Action<IoLoop> test)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            const int NewNetwork = 0x40000000;
            try
            {
                if (unshare(NewNetwork) != 0)
                    throw new HostException("cannot make a network namespace", Marshal.GetLastPInvokeError());
                using var thread = new IoThread("test");
                test(thread.Loop);
            }
            catch (Exception e) { failure = e; }
        });
        thread.Start();
        thread.Join();
        if (failure != null) System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
    }

    static bool IsArp(byte[] frame) => frame.Length >= 42 && frame[12] == 8 && frame[13] == 6;
    static bool IsUdp(byte[] frame) => frame.Length >= 42 && frame[12] == 8 && frame[13] == 0 && frame[23] == 17;

    /// <summary>A TCP segment for 10.9.0.1 whose checksum is left undone.</summary>
    static byte[] Tcp(int payload)
    {
        var frame = new byte[54 + payload];
        frame.AsSpan(0, 6).Fill(0xFF);
        Convert.FromHexString("0800" + "4500").CopyTo(frame, 12);
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(16), (ushort)(40 + payload));
        Convert.FromHexString("4006" + "0000" + "0A090002" + "0A090001").CopyTo(frame, 22);
        uint sum = 0;
        for (int i = 14; i < 34; i += 2) sum += BinaryPrimitives.ReadUInt16BigEndian(frame.AsSpan(i));
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(24), (ushort)~((sum & 0xFFFF) + (sum >> 16)));
        frame[46] = 0x50;
        frame[47] = 0x10;                                          // ACK
        return frame;
    }

    [TapFact]
    public void A_card_that_takes_unfinished_checksums_gets_them() => InNamespace(loop =>
    {
        string up = Script("up", "/sbin/ip addr add 10.9.0.1/24 dev \"$1\" && /sbin/ip link set \"$1\" up && "
            + "/sbin/ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev \"$1\"");
        var card = new Card();
        using var tap = new TapBackend("-netdev tap", new TapOptions("n", "qkvm0", up, "no"));
        Assert.True(tap.Gives.HasFlag(NetOffloads.Checksum | NetOffloads.Tso4));
        using INetQueue queue = tap.Open(0, card, loop);
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        socket.SendTo([1], new IPEndPoint(IPAddress.Parse("10.9.0.2"), 9));
        Assert.Equal(default, card.Next(IsUdp).Header);
        queue.Accept(NetOffloads.Checksum);
        socket.SendTo([1], new IPEndPoint(IPAddress.Parse("10.9.0.2"), 9));
        NetHeader header = card.Next(IsUdp).Header;
        Assert.Equal(new NetHeader(NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6), header);
    });

    [TapFact]
    public void The_kernel_takes_long_segments_and_refuses_what_makes_no_sense() => InNamespace(loop =>
    {
        string up = Script("up", "/sbin/ip addr add 10.9.0.1/24 dev \"$1\" && /sbin/ip link set \"$1\" up");
        using var tap = new TapBackend("-netdev tap", new TapOptions("n", "qkvm0", up, "no"));
        using INetQueue queue = tap.Open(0, new Card(), loop);
        long before = Statistics("qkvm0").Rx;
        var header = new NetHeader(true, false, Segmentation.Tcp4, 54, 1000, 34, 16);
        queue.Send(header, new ScatterList(Tcp(4000)));
        Assert.Equal((before + 1, 0), (Statistics("qkvm0").Rx, tap.Dropped));
        queue.Send(header with { ChecksumStart = 0xFFFF }, new ScatterList(Tcp(4000)));
        queue.Send(header with { SegmentSize = 0 }, new ScatterList(Tcp(4000)));
        queue.Send(header with { Segmentation = (Segmentation)0x77 }, new ScatterList(Tcp(4000)));
        Assert.Equal((before + 1, 3), (Statistics("qkvm0").Rx, tap.Dropped));
    });

    [TapFact]
    public void Each_of_several_queues_sends_and_an_inherited_one_goes_on() => InNamespace(loop =>
    {
        var options = new TapOptions("n", "qkvm0", Script("up", "/sbin/ip link set \"$1\" up"), "no", Queues: 3);
        using var tap = new TapBackend("-netdev tap", options);
        Assert.Equal(3, tap.MaxQueues);
        long before = Statistics("qkvm0").Rx;
        for (int i = 0; i < 3; i++)
        {
            using INetQueue queue = tap.Open(i, new Card(), loop);
            queue.Send(default, new ScatterList(Tcp(0)));
        }
        Assert.Equal((before + 3, 0), (Statistics("qkvm0").Rx, tap.Dropped));

        int fd = TapDevice.OpenClone(out _);
        TapDevice other = TapDevice.Configure(fd, "qkvm1", withHeader: true, isOneOfSeveral: false, out _)!;
        using var inherited = new TapBackend("-netdev tap", new TapOptions("m", Fds: [other.Fd]));
        Assert.Equal("qkvm1", inherited.InterfaceName);
        Assert.True((inherited.Takes & NetOffloads.Tso4) != 0);
    });

    [TapFact]
    public void Without_vnet_hdr_nothing_is_left_undone() => InNamespace(loop =>
    {
        using var tap = new TapBackend("-netdev tap", new TapOptions("n", Script: "no", DownScript: "no",
            HasHeader: false));
        Assert.Equal((NetOffloads.None, NetOffloads.None), (tap.Takes, tap.Gives));
    });

    [Theory]
    [InlineData("echo failed to parse default acl file >&2; exit 1", "root allows the bridge by a line 'allow br7' in "
        + "/etc/qemu/bridge.conf")]
    [InlineData("exit 0", "passed no descriptor")]
    public void A_bridge_helper_that_fails_is_quoted(string body, string expected)
    {
        string helper = Script("helper", body);
        var error = Assert.Throws<ConfigurationException>(() =>
            new TapBackend("-netdev bridge", new TapOptions("n", Helper: helper, Bridge: "br7")));
        Assert.Contains($"bridge helper failed: {helper}", error.Message);
        Assert.Contains(expected, error.Message);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unshare(int flags);

    sealed class Card : INetPort
    {
        public ConcurrentQueue<(NetHeader Header, byte[] Frame)> Frames { get; } = [];

        public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
        {
            Frames.Enqueue((header, frame.ToArray()));
            return true;
        }

        /// <summary>Waits for a frame from the host.</summary>
        public (NetHeader Header, byte[] Frame) Next(Func<byte[], bool> condition)
        {
            (NetHeader Header, byte[] Frame) found = default;
            // no assertion: the end of a test that would never end
            SpinWait.SpinUntil(() =>
            {
                if (!Frames.TryDequeue(out found)) Thread.Sleep(1);
                return found.Frame != null && condition(found.Frame);
            }, TimeSpan.FromSeconds(30));
            return found;
        }
    }
}
