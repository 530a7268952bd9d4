using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Net;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>The user network beside a real TCP: this machine's kernel is the guest.</summary>
[Collection(nameof(Alone))]
public sealed class KernelGuestTests
{
    const NetOffloads All = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6;

    [TapFact]
    public void The_gateway_and_the_nameserver_answer_pings()
    {
        using KernelGuest guest = Guest(All);
        foreach (string address in (string[])["10.0.2.2", "10.0.2.3"])
            // the longer one in fragments, both ways
            foreach (int length in (int[])[56, 4000])
                Assert.Equal(IPStatus.Success, guest.Inside(() => new Ping().Send(address, 5000,
                    Random(length)).Status));
    }

    [TapTheory]
    [InlineData(true, 0)]
    [InlineData(false, 0)]
    [InlineData(true, 50)]
    public async Task Bytes_arrive_as_they_were_sent_both_ways(bool offloads, int losesEvery)
    {
        using KernelGuest guest = Guest(offloads ? All : NetOffloads.None);
        guest.LosesEvery = losesEvery;
        byte[] data = Random(losesEvery > 0 ? 1 << 20 : 20 << 20);
        using var server = new Server(async stream =>
        {
            byte[] received = await ReadAll(stream);
            await stream.WriteAsync(received);
        });
        using Socket client = guest.Connect("10.0.2.2", server.Port);
        await using var stream = new NetworkStream(client);
        await stream.WriteAsync(data);
        client.Shutdown(SocketShutdown.Send);
        Assert.Equal(data, await ReadAll(stream));
        Assert.Equal(offloads, guest.LargestToGuest > 10_000);
        Assert.Equal(offloads, guest.LargestFromGuest > 10_000);
    }

    [TapFact]
    public void A_closed_port_of_the_host_refuses()
    {
        using KernelGuest guest = Guest(All);
        var error = Assert.Throws<SocketException>(() => guest.Connect("10.0.2.2", 1));
        Assert.Equal(SocketError.ConnectionRefused, error.SocketErrorCode);
    }

    [TapFact]
    public async Task A_forwarded_port_leads_to_a_program_in_the_guest()
    {
        using KernelGuest guest = Guest(All, o => o with
        {
            HostForwards = [new(ForwardKind.Tcp, UdpTests.Endpoint("127.0.0.1", 0), UdpTests.Endpoint("10.0.2.15",
                22))],
        });
        using Socket program = guest.Inside(() =>
        {
            var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            listener.Bind(new IPEndPoint(IPAddress.Any, 22));
            listener.Listen();
            return listener;
        });
        byte[] data = Random(5 << 20);
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, guest.Backend.Forwards.Single().Host.Port);
        using Socket served = await program.AcceptAsync();
        Assert.Equal("10.0.2.2", ((IPEndPoint)served.RemoteEndPoint!).Address.ToString());
        await using var stream = new NetworkStream(served);
        Task<byte[]> reading = ReadAll(stream);                    // meanwhile: no buffer on the way holds it all
        await client.GetStream().WriteAsync(data);
        client.Client.Shutdown(SocketShutdown.Send);
        Assert.Equal(data, await reading);
    }

    [TapFact]
    public async Task Connections_leave_nothing_behind()
    {
        using KernelGuest guest = Guest(All);
        using var server = new Server(async stream => await stream.WriteAsync((byte[])[1, 2, 3]));
        int before = 0;
        for (int i = 0; i < 500; i++)
        {
            if (i == 20) before = Descriptors();
            using Socket client = guest.Connect("10.0.2.2", server.Port);
            await using var stream = new NetworkStream(client);
            Assert.Equal([1, 2, 3], await ReadAll(stream));
        }
        Assert.InRange(Descriptors(), 0, before + 20);
    }

    static int Descriptors() => Directory.GetFiles("/proc/self/fd").Length;

    static KernelGuest Guest(NetOffloads offloads, Func<UserNetOptions, UserNetOptions>? change = null)
    {
        UserNetOptions options = UserNetOptions.Default("n");
        return new KernelGuest(change == null ? options : change(options), offloads);
    }

    static byte[] Random(int count)
    {
        var data = new byte[count];
        new Random(1).NextBytes(data);
        return data;
    }

    static async Task<byte[]> ReadAll(NetworkStream stream)
    {
        using var all = new MemoryStream();
        await stream.CopyToAsync(all);
        return all.ToArray();
    }

    /// <summary>On the host's loopback.</summary>
    sealed class Server : IDisposable
    {
        readonly TcpListener _listener = new(IPAddress.Loopback, 0);

        public Server(Func<NetworkStream, Task> serve)
        {
            _listener.Start();
            _ = Task.Run(async () =>
            {
                while (true)
                {
                    using TcpClient client = await _listener.AcceptTcpClientAsync();
                    await serve(client.GetStream());
                }
            });
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public void Dispose() => _listener.Dispose();
    }
}
