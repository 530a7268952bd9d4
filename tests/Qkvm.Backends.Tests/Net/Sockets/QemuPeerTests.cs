using System.Diagnostics;
using System.Net.Sockets;
using Qkvm.Backends.Net.Sockets;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tests.Net.Sockets;

/// <summary>QEMU at the other end of a cable: it asks its user network there who has 10.0.2.2, and gets the
/// answer.</summary>
public sealed class QemuPeerTests : IDisposable
{
    internal const string Qemu = "/usr/bin/qemu-system-x86_64";

    readonly TestLoop _loop = new();
    readonly string _folder = Directory.CreateTempSubdirectory("net").FullName;

    public void Dispose()
    {
        _loop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [QemuTheory]
    [InlineData("socket", true)]
    [InlineData("socket", false)]
    [InlineData("stream", true)]
    [InlineData("stream", false)]
    public void A_connection_carries_frames_both_ways(string type, bool weListen)
    {
        string path = Path.Combine(_folder, "s");
        SocketAddress address = type == "stream" ? new UnixAddress(path)
            : new InternetAddress("127.0.0.1", weListen ? 0 : FreePort());
        StreamNet Make() => _loop.Do(() => new StreamNet("-netdev x", new StreamNetOptions("n", type, address,
            weListen, weListen ? default : TimeSpan.FromMilliseconds(50)), _loop.Loop));
        StreamNet net = Make();
        string place = type == "stream" ? $"addr.type=unix,addr.path={path},server={(weListen ? "off" : "on")}"
            : $"{(weListen ? "connect" : "listen")}=127.0.0.1:"
                + (weListen ? net.Names[0].Service : $"{((InternetAddress)address).Port}");
        using Process qemu = Start($"{type},id=s,{place}");
        try
        {
            var card = new TestCard(net, _loop);
            _loop.Await(() => net.IsConnected);
            Ask(card);
        }
        finally
        {
            qemu.Kill();
            _loop.Do(net.Dispose);
        }
    }

    [QemuTheory]
    [InlineData("dgram")]
    public void Datagrams_carry_frames_both_ways(string type)
    {
        string ours = Path.Combine(_folder, "ours"), theirs = Path.Combine(_folder, "theirs");
        using var net = new DatagramNet("n", "dgram", DatagramSocket.Open(new UnixAddress(ours),
            new UnixAddress(theirs)), "");
        using Process qemu = Start($"{type},id=s,local.type=unix,local.path={theirs},remote.type=unix,"
            + $"remote.path={ours}");
        try
        {
            for (int i = 0; !File.Exists(theirs) && i < 600; i++) Thread.Sleep(50);
            Ask(new TestCard(net, _loop));
        }
        finally { qemu.Kill(); }
    }

    [QemuTheory]
    [InlineData("")]
    [InlineData(",counter=on")]
    [InlineData(",counter=on,pincounter=on,offset=3")]
    [InlineData(",cookie64=on,txcookie=0x1122334455667788,rxcookie=0x1122334455667788")]
    public void A_pseudowire_carries_frames_both_ways(string options)
    {
        int ours = FreePort(), theirs = FreePort();
        string both = $"src=127.0.0.1,dst=127.0.0.1,udp=on,txsession=0xFFFFFFFF{options}";
        var given = new Properties(L2tpNet.Model,
            Options.Parse($"id=n,srcport={ours},dstport={theirs},{both}", "-netdev l2tpv3"));
        using var net = (DatagramNet)L2tpNet.Model.Create(given, null!);
        using Process qemu = Start($"l2tpv3,id=s,srcport={theirs},dstport={ours},{both}");
        try { Ask(new TestCard(net, _loop)); }
        finally { qemu.Kill(); }
    }

    static void Ask(TestCard card)
    {
        byte[] mac = [0x52, 0x54, 0, 0, 0, 1];
        byte[] ask = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, .. mac, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, .. mac, 10, 0, 2, 15,
            0, 0, 0, 0, 0, 0, 10, 0, 2, 2];
        for (int i = 0; i < 200 && card.Waiting == 0; i++)         // its other half may not be up yet
        {
            card.Send(ask);
            Thread.Sleep(50);
        }
        byte[] answer;
        do answer = card.Next();
        while (answer[12..14] is not [8, 6] || answer[21] != 2);
        Assert.Equal([10, 0, 2, 2], answer[28..32]);
        Assert.Equal(mac, answer[..6]);
    }

    static Process Start(string netdev) => Process.Start(new ProcessStartInfo(Qemu, ["-M", "none", "-nodefaults",
        "-display", "none", "-netdev", "user,id=u", "-netdev", "hubport,id=a,hubid=0,netdev=u", "-netdev", netdev,
        "-netdev", "hubport,id=b,hubid=0,netdev=s"]))!;

    static int FreePort()
    {
        using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        probe.Bind(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
        return ((System.Net.IPEndPoint)probe.LocalEndPoint!).Port;
    }
}

/// <summary>Skipped where there is no QEMU.</summary>
public sealed class QemuTheoryAttribute : TheoryAttribute
{
    public QemuTheoryAttribute()
    {
        if (!File.Exists(QemuPeerTests.Qemu)) Skip = $"skipped: there is no {QemuPeerTests.Qemu}";
    }
}
