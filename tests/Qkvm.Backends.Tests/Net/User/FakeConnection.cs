using System.Net;
using System.Net.Sockets;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>A guest's TCP connection by hand, and the host's program at its other end.</summary>
sealed class FakeConnection : IDisposable
{
    const string Guest = FakeGuest.Address, Host = FakeGuest.Host;

    readonly FakeGuest _guest;
    readonly int _port, _server;

    /// <summary>The guest connects to a program that listens on the host.</summary>
    public FakeConnection(FakeGuest guest, int port = 4000, int window = 65535, byte[]? options = null,
        int receiveBuffer = 0)
    {
        (_guest, _port) = (guest, port);
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        if (receiveBuffer > 0) listener.ReceiveBufferSize = receiveBuffer;
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        _server = ((IPEndPoint)listener.LocalEndPoint!).Port;
        Send(Syn, window: window, options: options);
        Sequence++;
        SynAck = Next();
        Assert.Equal(Syn | Ack, SynAck.Flags);
        Assert.Equal(Sequence, SynAck.Acknowledgment);
        Expected = SynAck.Sequence + 1;
        Send(Ack, window: window);
        Program = listener.Accept();
        Program.ReceiveTimeout = 30_000;
    }

    public Socket Program { get; }
    public Frame SynAck { get; }

    /// <summary>What the guest sends and expects next.</summary>
    public uint Sequence { get; set; } = 0xFFFF_FFF0;              // it wraps soon
    public uint Expected { get; set; }

    public void Send(int flags, byte[]? data = null, int window = 65535, byte[]? options = null) =>
        _guest.Send(Segment(flags, data, window, options));

    public byte[] Segment(int flags, byte[]? data = null, int window = 65535, byte[]? options = null) =>
        Tcp(Guest, _port, Host, _server, Sequence, Expected, flags, data, window, options);

    /// <summary>Sends data and counts them.</summary>
    public void SendData(byte[] data)
    {
        Send(Ack | Psh, data);
        Sequence += (uint)data.Length;
    }

    public Frame Next() => _guest.Next(f => f.IsTcp && f.DestinationPort == _port && f.SourcePort == _server);

    /// <summary>The next segment with data or an end, which counts as received.</summary>
    public Frame NextData(bool acknowledges = true)
    {
        while (true)
        {
            Frame frame = Next();
            if (frame.Data.Length == 0 && (frame.Flags & Fin) == 0) continue;
            Assert.Equal(Expected, frame.Sequence);
            Expected += (uint)frame.Data.Length + ((frame.Flags & Fin) != 0 ? 1u : 0);
            if (acknowledges) Send(Ack);
            return frame;
        }
    }

    public byte[] Read(int count)
    {
        var data = new byte[count];
        for (int at = 0; at < count;)
        {
            int got = Program.Receive(data, at, count - at, SocketFlags.None);
            Assert.NotEqual(0, got);
            at += got;
        }
        return data;
    }

    public void Dispose() => Program.Dispose();
}
