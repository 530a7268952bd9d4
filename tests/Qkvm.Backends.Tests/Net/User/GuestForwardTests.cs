using Qkvm.Backends.Net.User;
using Qkvm.Core.Char;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

public sealed class GuestForwardTests
{
    const string At = "10.0.2.100";

    [Fact]
    public void A_program_runs_for_each_connection()
    {
        using FakeGuest guest = Guest(new GuestForward(UdpTests.Endpoint(At, 80), null, "tr a-z A-Z; echo end"));
        guest.Send(Arp(FakeGuest.Address, At));
        Assert.Equal([0x52, 0x55, .. Address(At)], guest.Next(f => f.Type == 0x806).From);
        foreach (int port in (int[])[4000, 4001])
        {
            uint expected = Connect(guest, port);
            guest.Send(Tcp(FakeGuest.Address, port, At, 80, 101, expected, Ack | Psh, "hello\n"u8.ToArray()));
            guest.Send(Tcp(FakeGuest.Address, port, At, 80, 107, expected, Ack | Fin));
            Assert.Equal("HELLO\nend\n", ReadAll(guest, port, expected));
        }
    }

    [Fact]
    public void Another_port_of_such_an_address_refuses()
    {
        using FakeGuest guest = Guest(new GuestForward(UdpTests.Endpoint(At, 80), null, "cat"));
        guest.Send(Tcp(FakeGuest.Address, 4000, FakeGuest.Host, 1, 1, 0, Syn));
        Assert.Equal(Rst | Ack, guest.Next(f => f.IsTcp).Flags);
    }

    [Fact]
    public void A_character_device_is_behind_a_connection()
    {
        var device = new Device();
        List<string> released = [];
        using (var guest = new FakeGuest(UserNetOptions.Default("n") with { Restrict = true }, default, loop => new(
            [new GuestForward(UdpTests.Endpoint(At, 80), "c0", null)], loop, _ => device, released.Add)))
        {
            uint expected = Connect(guest, 4000);
            guest.Send(Tcp(FakeGuest.Address, 4000, At, 80, 101, expected, Ack | Psh, "hello"u8.ToArray()));
            guest.Settle();
            Assert.Equal("hello"u8.ToArray(), device.Written);
            guest.OnLoop(() => device.Frontend!.Receive("answer"u8));
            Assert.Equal("answer"u8, guest.Next(f => f.IsTcp && f.Data.Length > 0).Data);
            // A full device holds the guest's data back, and gets them later.
            device.Limit = 2;
            guest.Send(Tcp(FakeGuest.Address, 4000, At, 80, 106, expected + 6, Ack | Psh, "12345"u8.ToArray()));
            guest.Settle();
            Assert.Equal("hello12"u8.ToArray(), device.Written);
            device.Limit = int.MaxValue;
            guest.OnLoop(device.Frontend!.Writable);
            Assert.Equal("hello12345"u8.ToArray(), device.Written);
            guest.Send(Tcp(FakeGuest.Address, 4001, At, 80, 100, 0, Syn)); // ends the one before
            Frame end = guest.Next(f => f.IsTcp && f.DestinationPort == 4000 && (f.Flags & (Fin | Rst)) != 0);
            Assert.Equal(expected + 6, end.Sequence);
        }
        Assert.Null(device.Frontend);
        Assert.Equal(["c0"], released);
    }

    static FakeGuest Guest(GuestForward forward) => new(UserNetOptions.Default("n") with { GuestForwards = [forward] },
        default, loop => new GuestTargets([forward], loop, _ => throw new InvalidOperationException(), _ => { }));

    /// <summary>Up to the guest's first byte, 101; returns what it expects.</summary>
    static uint Connect(FakeGuest guest, int port)
    {
        guest.Send(Tcp(FakeGuest.Address, port, At, 80, 100, 0, Syn));
        Frame accepted = guest.Next(f => f.IsTcp && f.DestinationPort == port);
        Assert.Equal(Syn | Ack, accepted.Flags);
        guest.Send(Tcp(FakeGuest.Address, port, At, 80, 101, accepted.Sequence + 1, Ack));
        guest.Settle();
        return accepted.Sequence + 1;
    }

    static string ReadAll(FakeGuest guest, int port, uint expected)
    {
        string all = "";
        while (true)
        {
            Frame frame = guest.Next(f => f.IsTcp && f.DestinationPort == port);
            if (frame.Sequence != expected) continue;
            all += System.Text.Encoding.ASCII.GetString(frame.Data);
            expected += (uint)frame.Data.Length;
            guest.Send(Tcp(FakeGuest.Address, port, At, 80, 108, expected, Ack));
            if ((frame.Flags & Fin) != 0) return all;
        }
    }

    sealed class Device : ICharBackend
    {
        readonly List<byte> _written = [];

        public byte[] Written => [.. _written];
        public int Limit { get; set; } = int.MaxValue;
        public ICharFrontend? Frontend { get; private set; }
        public string Id => "c0";
        public string Description => "";
        public bool IsOpen => true;

        public int Write(ReadOnlySpan<byte> data)
        {
            int count = Math.Min(data.Length, Limit);
            _written.AddRange(data[..count]);
            Limit -= count;
            return count;
        }

        public void Connect(ICharFrontend? frontend) => Frontend = frontend;

        public void AcceptInput() { }
    }
}
