using System.Net.Sockets;
using Qkvm.Core.Net;
using static Qkvm.Backends.Tests.Net.User.Packets;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>RFC 9293, segment by segment.</summary>
public sealed class TcpTests
{
    static readonly byte[] s_scale7 = [2, 4, 5, 180, 1, 3, 3, 7];

    [Fact]
    public void A_handshake_offers_what_the_guest_offers()
    {
        using var guest = new FakeGuest();
        using (var plain = new FakeConnection(guest))
        {
            Assert.Equal(65535, plain.SynAck.Window);
            Assert.Equal([2, 4, 5, 180], plain.SynAck.Payload[20..]);
        }
        using var scaled = new FakeConnection(guest, 4001, options: s_scale7);
        Assert.Equal([2, 4, 5, 180, 1, 3, 3, 7], scaled.SynAck.Payload[20..]);
        scaled.SendData([1]);
        Assert.Equal(1 << 13, scaled.Next().Window);               // 1 MiB
    }

    [Fact]
    public void Data_pass_both_ways_and_are_acknowledged()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.SendData([1, 2, 3]);
        Assert.Equal(connection.Sequence, connection.Next().Acknowledgment);
        Assert.Equal([1, 2, 3], connection.Read(3));
        connection.Program.Send([4, 5]);
        Frame frame = connection.NextData();
        Assert.Equal([4, 5], frame.Data);
        Assert.Equal(Ack | Psh, frame.Flags);
    }

    [Theory]
    [InlineData(NetOffloads.None, 536)]                            // without an option: RFC 9293, section 3.7.1
    [InlineData(NetOffloads.Checksum | NetOffloads.Tso4, 30_000)]
    public void Segments_are_as_long_as_the_guest_takes(NetOffloads offloads, int expected)
    {
        using var guest = new FakeGuest(offloads: offloads);
        using var connection = new FakeConnection(guest);
        byte[] data = new byte[30_000];
        new Random(1).NextBytes(data);
        connection.Program.Send(data);
        List<byte> received = [];
        int largest = 0;
        while (received.Count < data.Length)
        {
            Frame frame = connection.NextData();
            received.AddRange(frame.Data);
            largest = Math.Max(largest, frame.Data.Length);
            if (offloads == NetOffloads.None) { Assert.Equal(default, frame.Header); continue; }
            bool isCut = frame.Data.Length > 536;
            Assert.Equal(new NetHeader(true, false, isCut ? Segmentation.Tcp4 : Segmentation.None, (ushort)(isCut ? 54
                : 0), (ushort)(isCut ? 536 : 0), 34, 16), frame.Header);
            // the pseudo header's sum stands in the field
            Assert.Equal((ushort)~Sum(Pseudo(frame.Source, frame.Destination, 6, frame.Payload.Length)),
                Read16(frame.Payload, 16));
        }
        Assert.Equal(data, received);
        Assert.Equal(expected, largest);
    }

    [Fact]
    public void The_guests_end_reaches_the_program_and_data_still_come()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.Send(Ack | Fin, [7]);
        connection.Sequence += 2;
        Assert.Equal(connection.Sequence, connection.Next().Acknowledgment);
        Assert.Equal([7], connection.Read(1));
        Assert.Equal(0, connection.Program.Receive(new byte[1]));
        connection.Program.Send([8]);
        Assert.Equal([8], connection.NextData().Data);
        connection.Program.Shutdown(SocketShutdown.Send);
        Assert.Equal(Fin, connection.NextData().Flags & Fin);
        guest.Settle();
        connection.Send(Ack);                                      // over: nobody knows it
        Assert.Equal(Rst, connection.Next().Flags);
    }

    [Fact]
    public void The_programs_end_reaches_the_guest_and_is_remembered_for_a_while()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.Program.Shutdown(SocketShutdown.Send);
        Assert.Equal(Fin | Ack, connection.NextData().Flags & ~Psh);
        connection.SendData([1]);
        Assert.Equal([1], connection.Read(1));
        for (int i = 0; i < 2; i++)                                // the second: our answer was lost
        {
            connection.Send(Ack | Fin);
            guest.Advance(1);
            Assert.Equal(connection.Sequence + 1, guest.Settle().Last(f => f.IsTcp).Acknowledgment);
        }
        guest.Advance(5);
        connection.Send(Ack | Fin);
        Assert.Equal(Rst, connection.Next().Flags);
    }

    [Fact]
    public void A_reset_of_either_side_reaches_the_other()
    {
        using var guest = new FakeGuest();
        using (var connection = new FakeConnection(guest))
        {
            connection.Send(Rst);
            Assert.Equal(SocketError.ConnectionReset, Assert.Throws<SocketException>(() =>
                connection.Program.Receive(new byte[1])).SocketErrorCode);
        }
        using var other = new FakeConnection(guest, 4001);
        other.Program.LingerState = new LingerOption(true, 0);
        other.Program.Close();
        Assert.Equal(Rst, other.Next().Flags & Rst);
    }

    [Fact]
    public void Resets_and_SYNs_that_are_not_exact_are_challenged()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.Sequence += 100;
        connection.Send(Rst);
        Assert.Equal((Ack, connection.Sequence - 100), (connection.Next() is var f ? f.Flags : 0, f.Acknowledgment));
        connection.Send(Syn);
        Assert.Equal(Ack, connection.Next().Flags);
        connection.Sequence -= 100;
        connection.SendData([1]);
        Assert.Equal([1], connection.Read(1));
    }

    [Fact]
    public void Data_that_come_twice_or_with_a_gap_arrive_once_and_in_order()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.SendData([1, 2, 3]);
        connection.Next();
        connection.Sequence += 2;
        connection.Send(Ack, [6, 7]);                              // 4 and 5 are missing
        Assert.Equal(connection.Sequence - 2, connection.Next().Acknowledgment);
        connection.Sequence -= 4;
        connection.Send(Ack, [2, 3, 4, 5, 6]);                     // two known, three new
        connection.Sequence += 5;
        Assert.Equal(connection.Sequence, connection.Next().Acknowledgment);
        Assert.Equal([1, 2, 3, 4, 5, 6], connection.Read(6));
        connection.Sequence--;
        connection.Send(Ack);                                      // a keep-alive must be answered
        Assert.Equal(connection.Sequence + 1, connection.Next().Acknowledgment);
    }

    [Fact]
    public void A_segment_with_a_wrong_checksum_does_not_count()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        byte[] wrong = connection.Segment(Ack, [1]);
        wrong[^1] ^= 1;
        guest.Send(wrong);
        Assert.Empty(guest.Settle());
        guest.Send(wrong, new NetHeader(NeedsChecksum: true));
        Assert.Equal(connection.Sequence + 1, connection.Next().Acknowledgment);
    }

    [Fact]
    public void What_is_not_acknowledged_is_sent_again_and_given_up_in_the_end()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.Program.Send([1, 2]);
        connection.NextData(acknowledges: false);
        connection.Expected -= 2;
        guest.Advance(1.2);
        Assert.Equal([1, 2], connection.NextData(acknowledges: false).Data);
        connection.Expected -= 2;
        guest.Advance(1.2);
        Assert.DoesNotContain(guest.Settle(), f => f.IsTcp);       // each time it waits longer
        guest.Advance(1.0);
        Assert.Equal([1, 2], connection.NextData(acknowledges: false).Data);
        guest.Advance(300);
        Assert.Contains(guest.Settle(), f => f.IsTcp && (f.Flags & Rst) != 0);
        Assert.Throws<SocketException>(() => connection.Program.Receive(new byte[1]));
    }

    [Fact]
    public void Three_equal_acknowledgments_ask_for_the_rest_at_once()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.Program.Send([1, 2]);
        connection.NextData();
        connection.Program.Send([3, 4]);
        connection.NextData(acknowledges: false);
        connection.Expected -= 2;
        for (int i = 0; i < 3; i++) connection.Send(Ack);
        Assert.Equal([3, 4], connection.NextData().Data);
    }

    [Fact]
    public void A_closed_window_is_respected_probed_and_opened()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest, window: 4);
        connection.Program.Send([1, 2, 3, 4, 5, 6]);
        Assert.Equal([1, 2, 3, 4], connection.NextData(acknowledges: false).Data);
        connection.Send(Ack, window: 0);
        Assert.Empty(guest.Settle());
        for (int i = 0; i < 20; i++)                               // longer than it waits for an answer
        {
            guest.Advance(20);
            Frame probe = guest.Settle().Last(f => f.IsTcp);
            Assert.Equal([5], probe.Data);
            connection.Send(Ack, window: 0);
        }
        connection.Send(Ack, window: 100);
        guest.Advance(20);
        Assert.Equal([6], guest.Settle().Last(f => f.Data.Length > 0).Data[^1..]);
    }

    [Fact]
    public void A_program_that_does_not_read_closes_the_window_and_nothing_is_lost()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest, receiveBuffer: 4096);
        List<byte> sent = [];
        uint edge = connection.Sequence + 65535;
        for (int i = 0; (int)(edge - connection.Sequence) > 0; i++)
        {
            int length = Math.Min(1400, (int)(edge - connection.Sequence));
            byte[] data = [.. Enumerable.Range(i, length).Select(b => (byte)b)];
            connection.SendData(data);
            sent.AddRange(data);
            Frame? last = guest.Settle().LastOrDefault(f => f.IsTcp);
            Assert.NotNull(last);
            Assert.Equal(connection.Sequence, last.Acknowledgment);
            edge = last.Acknowledgment + (uint)last.Window;
            Assert.True(sent.Count < 20 << 20);
        }
        connection.Send(Ack, [9]);                                 // beyond the window
        Assert.Equal((connection.Sequence, 0), (connection.Next() is var f ? f.Acknowledgment : 0, f.Window));
        Assert.Equal(sent, connection.Read(sent.Count));
        guest.Advance(0.1);
        Assert.True(connection.Next().Window > 0);
    }

    [Fact]
    public void A_card_without_room_gets_the_frames_later_in_order()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        guest.Refuses = true;
        connection.Program.Send([1]);
        guest.Settle();
        guest.Send(Icmp(FakeGuest.Address, FakeGuest.Host, 8, 0, 0, 0, 0, 1, 0, 1));
        guest.Advance(30);                                         // no reason to send anything twice
        Assert.Empty(guest.Settle());
        guest.Resume();
        Assert.Equal([1], connection.NextData().Data);
        Assert.DoesNotContain(guest.Settle(), f => f.IsTcp);
    }

    [Fact]
    public void A_closed_port_refuses_and_an_unknown_segment_is_reset()
    {
        using var guest = new FakeGuest();
        guest.Send(Tcp(FakeGuest.Address, 4000, FakeGuest.Host, UdpTests.FreePort(), 5, 0, Syn));
        Frame refused = guest.Next(f => f.IsTcp);
        Assert.Equal((Rst | Ack, 0u, 6u), (refused.Flags, refused.Sequence, refused.Acknowledgment));
        guest.Send(Tcp(FakeGuest.Address, 4000, FakeGuest.Host, 1, 5, 77, Ack));
        Frame reset = guest.Next(f => f.IsTcp);
        Assert.Equal((Rst, 77u), (reset.Flags, reset.Sequence));
        guest.Send(Tcp(FakeGuest.Address, 4000, FakeGuest.Host, 1, 5, 77, Rst));
        guest.Send(Tcp(FakeGuest.Address, 4000, "127.0.0.1", 1, 5, 0, Syn)); // no way to the host's own
        Assert.DoesNotContain(guest.Settle(), f => f.Source != "127.0.0.1");
    }

    [Fact]
    public void A_guest_that_forgot_a_connection_can_begin_anew()
    {
        using var guest = new FakeGuest();
        using var connection = new FakeConnection(guest);
        connection.Sequence += 0x1000_0000;                        // after a reset of the machine
        connection.Send(Syn);
        Frame challenge = connection.Next();
        Assert.Equal(Ack, challenge.Flags);
        connection.Sequence = challenge.Acknowledgment;            // RFC 9293, section 3.10.7.3: reset it
        connection.Send(Rst);
        Assert.Throws<SocketException>(() => connection.Program.Receive(new byte[1]));
    }
}
