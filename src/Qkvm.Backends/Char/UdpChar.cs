using System.Net.Sockets;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>udp: what the guest writes goes out in datagrams, and what comes from there is its input.</summary>
public sealed class UdpChar : StreamChar, IDisposable
{
    public static readonly CharModel Model = new("udp",
        [
            Property.Text("host", "localhost", "where datagrams go"),
            Property.Automatic("port", min: 1, max: ushort.MaxValue),
            Property.Text("localaddr", "", "where they are received"),
            Property.Number("localport", 0, max: ushort.MaxValue, help: "0 for any"),
            Property.OnOffAuto("ipv4"), Property.OnOffAuto("ipv6"),
        ], Create) { Description = "datagrams of UDP" };

    UdpChar(string id, DatagramSocket socket, EventLoop loop) : base(id, loop) => Open(new DatagramTransport(socket));

    public override string Description => Model.Name;

    protected override void OnHangUp() { }

    public void Dispose() => Detach();

    static UdpChar Create(Properties properties, IBackendHost host)
    {
        if (properties.NumberOrAuto("port") is not { } port) throw properties.Error("needs port=");
        bool? ipv4 = properties.OnOffAuto("ipv4"), ipv6 = properties.OnOffAuto("ipv6");
        string name = properties.Text("host") is { Length: > 0 } given ? given : "localhost";
        var remote = new InternetAddress(name, (int)port, Ipv4: ipv4, Ipv6: ipv6);
        var local = new InternetAddress(properties.Text("localaddr") ?? "", (int)properties.Number("localport"),
            Ipv4: ipv4, Ipv6: ipv6);
        try
        {
            DatagramSocket socket = DatagramSocket.Open(local, remote);
            try { socket.ListenToRemoteAlone(); }
            catch
            {
                socket.Dispose();
                throw;
            }
            return new UdpChar(properties.Required("id"), socket, host.Loop);
        }
        catch (HostException e) { throw properties.Error($"{remote}: {e.Message}", e); }
        catch (SocketException e) { throw properties.Error($"{remote}: {e.Message}", e); }
    }
}
