using System.Net;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Net;
using Qkvm.Host;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

public sealed class HostForwardTests
{
    [Fact]
    public void A_client_is_connected_with_the_guest()
    {
        using FakeGuest guest = Guest();
        int port = guest.Backend.Forwards.Single().Host.Port;
        Assert.Equal($"-netdev user,id=n: hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22", guest.Printed.Single());
        using Socket client = Connect(port);
        Frame arp = guest.Next(f => f.Type == 0x806);
        Assert.Equal(Broadcast, arp.To);
        Assert.Equal([10, 0, 2, 15], arp.Bytes[38..42]);
        guest.Send(ArpReply(FakeGuest.Address, FakeGuest.Host));
        Frame syn = guest.Next(f => f.IsTcp);
        int own = ((IPEndPoint)client.LocalEndPoint!).Port;
        Assert.Equal((Syn, FakeGuest.Host, own, 22), (syn.Flags, syn.Source, syn.SourcePort, syn.DestinationPort));
        guest.Send(Tcp(FakeGuest.Address, 22, FakeGuest.Host, own, 1000, syn.Sequence + 1, Syn | Ack));
        Frame ack = guest.Next(f => f.IsTcp);
        Assert.Equal((Ack, 1001u), (ack.Flags, ack.Acknowledgment));
        guest.Send(Tcp(FakeGuest.Address, 22, FakeGuest.Host, own, 1001, syn.Sequence + 1, Ack, "hello"u8.ToArray()));
        var data = new byte[5];
        Assert.Equal(5, client.Receive(data));
        Assert.Equal("hello"u8, data);
    }

    [Fact]
    public void A_guest_that_refuses_and_one_that_is_not_there_end_the_stream()
    {
        using FakeGuest guest = Guest();
        int port = guest.Backend.Forwards.Single().Host.Port;
        using (Socket client = Connect(port))
        {
            guest.Next(f => f.Type == 0x806);
            guest.Advance(80);
            Assert.Contains(guest.Settle(), f => f.Type == 0x806); // it was asked again
            Assert.Equal(0, client.Receive(new byte[1]));
        }
        guest.Send(Arp(FakeGuest.Address, FakeGuest.Host));
        using Socket second = Connect(port);
        Frame syn = guest.Next(f => f.IsTcp);
        guest.Send(Tcp(FakeGuest.Address, 22, FakeGuest.Host, syn.SourcePort, 0, syn.Sequence + 1, Rst | Ack));
        Assert.Equal(0, second.Receive(new byte[1]));
    }

    [Fact]
    public void A_UNIX_sockets_client_is_connected_too_and_the_file_goes()
    {
        string path = Path.Combine(Path.GetTempPath(), $"qkvm-{Guid.NewGuid():n}");
        using (FakeGuest guest = Guest(new HostForward(ForwardKind.Unix, default, UdpTests.Endpoint("10.0.2.16", 80),
            path)))
        {
            using var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            client.Connect(new UnixDomainSocketEndPoint(path));
            guest.Send(Arp("10.0.2.16", FakeGuest.Host));
            Frame syn = guest.Next(f => f.IsTcp);
            Assert.Equal((FakeGuest.Host, "10.0.2.16", 80), (syn.Source, syn.Destination, syn.DestinationPort));
        }
        Assert.False(File.Exists(path));
    }

    [Fact]
    public void The_file_goes_with_the_program_whose_loop_has_ended()
    {
        string path = Path.Combine(Path.GetTempPath(), $"qkvm-{Guid.NewGuid():n}");
        using var loop = new EventLoop();
        var backend = new UserNetBackend("-netdev user,id=n", UserNetOptions.Default("n") with
        {
            HostForwards = [new(ForwardKind.Unix, default, UdpTests.Endpoint("10.0.2.15", 80), path)],
        }, new GuestTargets([], loop, _ => throw new InvalidOperationException(), _ => { }), _ => { });
        backend.Open(0, new NoPort(), loop);
        Assert.True(File.Exists(path));
        backend.Dispose();
        Assert.False(File.Exists(path));
    }

    sealed class NoPort : INetPort
    {
        public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame) => true;
    }

    [Fact]
    public void Ports_come_and_go_while_the_guest_runs()
    {
        using FakeGuest guest = Guest();
        string before = Lines(guest);
        guest.OnLoop(() => guest.Backend.AddForward("tcp:127.0.0.1:0-:80"));
        string rule = guest.Printed[^1]["hostfwd_add: hostfwd=".Length..];
        string side = rule[..rule.IndexOf('-')];
        int port = int.Parse(side.Split(':')[2]);
        Assert.Equal($"{before}\nTcp HOST_FORWARD 127.0.0.1:{port} 10.0.2.15:80", Lines(guest));
        guest.Send(Arp(FakeGuest.Address, FakeGuest.Host));
        using (Socket client = Connect(port))
        {
            Assert.Equal(80, guest.Next(f => f.IsTcp).DestinationPort);
            Assert.Contains($"Tcp SYN_SENT 10.0.2.2:{((IPEndPoint)client.LocalEndPoint!).Port} 10.0.2.15:80",
                Lines(guest));
        }
        Assert.Equal("hostfwd_add: Invalid host forwarding rule 'tcp:1' (Missing - separator); write for example "
            + "tcp:127.0.0.1:2222-:22",
            Assert.Throws<ConfigurationException>(() => guest.Backend.AddForward("tcp:1")).Message);
        Assert.Contains("uses the port", Assert.Throws<ConfigurationException>(
            () => guest.Backend.AddForward($"{side}-:81")).Message);
        bool isRemoved = false;
        guest.OnLoop(() => isRemoved = guest.Backend.RemoveForward(side));
        Assert.True(isRemoved);
        guest.Settle();
        Assert.ThrowsAny<SocketException>(() => Connect(port));
        Assert.False(guest.Backend.RemoveForward(side));
        Assert.Throws<FormatException>(() => guest.Backend.RemoveForward("tcp:x"));
    }

    static string Lines(FakeGuest guest) => string.Join('\n', guest.Backend.Connections.Select(c =>
        $"{c.Protocol} {c.State} {c.Source}:{c.SourcePort} {c.Destination}:{c.DestinationPort}"));

    [Fact]
    public void A_port_in_use_names_its_holder()
    {
        using var holder = new TcpListener(IPAddress.Loopback, 0);
        holder.Start();
        int port = ((IPEndPoint)holder.LocalEndpoint).Port;
        var error = Assert.Throws<ConfigurationException>(() => Guest(new HostForward(ForwardKind.Tcp,
            UdpTests.Endpoint("127.0.0.1", port), UdpTests.Endpoint(FakeGuest.Address, 22))));
        Assert.Contains($"-netdev user,id=n: hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22: cannot listen: Address already "
            + "in use; ", error.Message);
        Assert.Contains($"(process {Environment.ProcessId}) uses the port: choose another one, or 0 for any",
            error.Message);
    }

    static FakeGuest Guest(params HostForward[] forwards) => new(UserNetOptions.Default("n") with
    {
        HostForwards = forwards.Length > 0 ? forwards : [new(ForwardKind.Tcp, UdpTests.Endpoint("127.0.0.1", 0),
            UdpTests.Endpoint(FakeGuest.Address, 22))],
    });

    static Socket Connect(int port)
    {
        var client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
            { ReceiveTimeout = 30_000 };
        client.Connect(IPAddress.Loopback, port);
        return client;
    }
}
