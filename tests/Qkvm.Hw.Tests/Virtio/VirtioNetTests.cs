using System.Buffers.Binary;
using Qkvm.Core.Net;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class VirtioNetTests : IDisposable
{
    const int Receive = 0, Transmit = 1, Control = 2;
    const ulong Data = 0x200000, Command = 0x210000, Answer = 0x211000;
    const ulong MrgRxBuf = 1 << 15;
    static readonly byte[] Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    readonly PciBench _bench = new();
    readonly NetWire _wire = new();
    readonly VirtioNet _card;
    readonly VirtioGuest _guest;
    int _filterChanges;

    public VirtioNetTests()
    {
        _card = new VirtioNet("net", _wire, Mac, new VirtioNetOptions(), _bench.Loop, _bench.Pump.Post)
        {
            FilterChanged = () => _filterChanges++,
        };
        _guest = new VirtioGuest(_bench, _card);
    }

    void Request(int queue, params (ulong Address, int Length)[] buffers)
    {
        _guest.Request(queue, buffers);
        _bench.Pump.RunPosted();
    }

    void Start(ulong features = ulong.MaxValue)
    {
        _guest.Start(features);
        _bench.Pump.RunPosted();
    }

    public void Dispose() => _bench.Dispose();

    static byte[] Frame(int length, params byte[] target)
    {
        var frame = new byte[length];
        for (int i = 0; i < length; i++) frame[i] = (byte)i;
        (target.Length == 6 ? target : Mac).CopyTo(frame, 0);
        return frame;
    }

    [Fact]
    public void A_frame_is_sent_without_its_header()
    {
        Start();
        byte[] frame = Frame(60);
        _bench.Memory.Space.Write(Data + 12, frame);
        Request(Transmit, (Data, 12), (Data + 12, 20), (Data + 32, 40));
        Assert.Equal(frame, Assert.Single(_wire.Sent).Frame);
        Assert.Equal(default, _wire.Sent[0].Header);
        Assert.Equal(0u, _guest.Queues[Transmit].TakeUsed()!.Value.Written);
    }

    [Fact]
    public void Features_stay_while_the_device_runs_though_the_driver_takes_its_status_back()
    {
        Start();
        _guest.Status = 1;
        _guest.Common(8, 4, 0);
        _guest.Common(12, 4, ~0u);
        StateNode state = StateNode.Save(_guest.Function.Exchange);
        state.Load(_guest.Function.Exchange);
        Assert.Equal(state.ToString(), StateNode.Save(_guest.Function.Exchange).ToString());
    }

    [Fact]
    public void A_received_frame_comes_behind_a_header_that_counts_one_buffer()
    {
        Start();
        Request(Receive, (Data, -1526));
        _wire.Give(Frame(60));
        Assert.Equal((0u, 72u), _guest.Queues[Receive].TakeUsed());
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], _bench.Memory.Bytes(Data, 12));
        Assert.Equal(Frame(60), _bench.Memory.Bytes(Data + 12, 60));
    }

    [Fact]
    public void A_large_frame_is_spread_over_several_buffers()
    {
        Start();
        for (int i = 0; i < 4; i++) Request(Receive, (Data + (ulong)i * 0x1000, -100));
        _wire.Give(Frame(250));
        GuestQueue queue = _guest.Queues[Receive];
        Assert.Equal((0u, 100u), queue.TakeUsed());
        Assert.Equal((1u, 100u), queue.TakeUsed());
        Assert.Equal((2u, 62u), queue.TakeUsed());
        Assert.Null(queue.TakeUsed());
        Assert.Equal(3, _bench.Memory.Bytes(Data + 10, 1)[0]);
        byte[] got = [.. _bench.Memory.Bytes(Data + 12, 88), .. _bench.Memory.Bytes(Data + 0x1000, 100),
            .. _bench.Memory.Bytes(Data + 0x2000, 62)];
        Assert.Equal(Frame(250), got);
    }

    [Fact]
    public void A_frame_waits_until_there_are_buffers_enough_for_it()
    {
        Start();
        Request(Receive, (Data, -100));
        Assert.False(_wire.Give(Frame(250)));
        int before = _wire.Resumes;
        Request(Receive, (Data + 0x1000, -100));
        Assert.Equal(before + 1, _wire.Resumes);
        Assert.False(_wire.Give(Frame(250)));
        Request(Receive, (Data + 0x2000, -100));
        Assert.Equal(before + 2, _wire.Resumes);
        Assert.True(_wire.Give(Frame(250)));
        Assert.Equal(3, _guest.Queues[Receive].UsedIndex);
    }

    [Fact]
    public void A_frame_for_which_the_whole_queue_is_too_small_is_dropped()
    {
        Start();
        for (int i = 0; i < 256; i++) Request(Receive, (Data, -20));
        Assert.True(_wire.Give(Frame(6000)));
        Assert.Equal(0, _guest.Queues[Receive].UsedIndex);
    }

    [Fact]
    public void Without_mergeable_buffers_a_frame_takes_one_buffer_or_none()
    {
        Start(~MrgRxBuf);
        Request(Receive, (Data, -100));
        Request(Receive, (Data + 0x1000, -1526));
        _wire.Give(Frame(250));
        Assert.Equal(0, _guest.Queues[Receive].UsedIndex);
    }

    [Fact]
    public void The_backend_waits_until_the_guest_gives_a_buffer()
    {
        Assert.False(_wire.Give(Frame(60)));                       // no driver
        Start();
        int before = _wire.Resumes;
        Request(Receive, (Data, -1526));
        Assert.True(_wire.Resumes > before);
        Assert.True(_wire.Give(Frame(60)));
        Assert.False(_wire.Give(Frame(60)));
    }

    [Fact]
    public void Its_configuration_tells_address_and_link()
    {
        Start();
        for (uint i = 0; i < 6; i++) Assert.Equal(Mac[i], _guest.Config(i, 1));
        Assert.Equal(1u, _guest.Config(6, 2));
        _card.SetLink(false);
        Assert.Equal(0u, _guest.Config(6, 2));
        Assert.Equal(2, _guest.Isr);
    }

    [Fact]
    public void With_the_link_down_nothing_passes()
    {
        Start();
        _card.SetLink(false);
        Request(Receive, (Data, -1526));
        _wire.Give(Frame(60));
        Request(Transmit, (Data + 0x1000, 72));
        Assert.Equal(0, _guest.Queues[Receive].UsedIndex);
        Assert.Equal(1, _guest.Queues[Transmit].UsedIndex);
        Assert.Empty(_wire.Sent);
    }

    [Theory]
    [InlineData(false, "52:54:00:12:34:56", true)]
    [InlineData(false, "52:54:00:00:00:01", false)]
    [InlineData(true, "52:54:00:00:00:01", true)]
    [InlineData(false, "ff:ff:ff:ff:ff:ff", true)]
    [InlineData(false, "33:33:00:00:00:01", true)]
    [InlineData(false, "33:33:00:00:00:02", false)]
    [InlineData(false, "02:00:00:00:00:07", true)]
    public void Frames_are_filtered_by_mode_and_tables(bool promiscuous, string target, bool passes)
    {
        Start();
        Assert.Equal(0, Send(0, 0, promiscuous ? (byte)1 : (byte)0));
        Assert.Equal(0, Send(1, 0, [1, 0, 0, 0, 2, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 1]));
        Request(Receive, (Data, -1526));
        _wire.Give(Frame(60, Convert.FromHexString(target.Replace(":", ""))));
        Assert.Equal(passes ? 1 : 0, _guest.Queues[Receive].UsedIndex);
    }

    [Fact]
    public void Tagged_frames_pass_for_the_VLANs_that_were_added()
    {
        Start();
        Send(0, 0, 0);
        byte[] frame = Frame(60);
        (frame[12], frame[13], frame[14], frame[15]) = (0x81, 0, 0, 5);
        Request(Receive, (Data, -1526));
        _wire.Give(frame);
        Assert.Equal(0, _guest.Queues[Receive].UsedIndex);
        Assert.Equal(0, Send(2, 0, 5, 0));
        _wire.Give(frame);
        Assert.Equal(1, _guest.Queues[Receive].UsedIndex);
    }

    [Fact]
    public void The_driver_sets_another_address()
    {
        Start();
        Assert.Equal(0, Send(1, 1, 2, 0, 0, 0, 0, 9));
        Assert.Equal(9u, _guest.Config(5, 1));
    }

    [Theory]
    [InlineData("0909")]                                           // no such class
    [InlineData("0006" + "01")]                                    // no such mode
    [InlineData("0000")]                                           // no data
    [InlineData("0100" + "FFFFFFFF")]                              // a table of 4 G entries
    [InlineData("0100" + "02000000" + "020000000001")]             // shorter than it says
    [InlineData("0101" + "0102")]                                  // half an address
    [InlineData("0200" + "0010")]                                  // VLAN 4096
    [InlineData("0400" + "0000")]                                  // no pairs of queues
    [InlineData("0400" + "FFFF")]                                  // 65535 pairs
    public void A_bad_command_is_answered_with_an_error(string command)
    {
        Start();
        byte[] bytes = Convert.FromHexString(command);
        Assert.Equal(1, Send(bytes[0], bytes[1], bytes[2..]));
        Assert.Equal(0, _guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void A_table_that_does_not_fit_lets_all_pass()
    {
        Start();
        Send(0, 0, 0);
        var command = new byte[4 + 65 * 6 + 4];
        BinaryPrimitives.WriteInt32LittleEndian(command, 65);
        Assert.Equal(0, Send(1, 0, command));
        Request(Receive, (Data, -1526));
        _wire.Give(Frame(60, 2, 0, 0, 0, 0, 77));
        Assert.Equal(1, _guest.Queues[Receive].UsedIndex);
    }

    [Fact]
    public void Frames_too_short_for_Ethernet_are_swallowed()
    {
        Start();
        Request(Transmit, (Data, 20));
        Assert.Equal(1, _guest.Queues[Transmit].UsedIndex);
        Assert.Empty(_wire.Sent);
    }

    [Theory]
    [InlineData(Transmit, 11)]
    [InlineData(Control, 1)]
    public void A_request_shorter_than_its_header_needs_a_reset(int queue, int length)
    {
        Start();
        Request(queue, (Data, length));
        Assert.Equal(VirtioStatus.NeedsReset, _guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void A_receive_buffer_shorter_than_the_header_needs_a_reset()
    {
        Start();
        Request(Receive, (Data, -11));
        _wire.Give(Frame(60));
        _bench.Pump.RunPosted();
        Assert.Equal(VirtioStatus.NeedsReset, _guest.Status & VirtioStatus.NeedsReset);
    }

    [Fact]
    public void Reset_makes_the_card_new_and_its_state_survives_saving()
    {
        Start();
        Send(0, 0, 0);
        Send(1, 1, 2, 0, 0, 0, 0, 9);
        using var bench = new PciBench();
        var fresh =
            new VirtioGuest(bench,
            new VirtioNet("net", new NetWire(), Mac, new VirtioNetOptions(), bench.Loop, bench.Pump.Post))
            .Function;
        StateAssert.SurvivesSaveAndLoad(_guest.Function, fresh);
        fresh.Reset();
        StateAssert.ResetEqualsNew(_guest.Function, fresh);
    }

    [Fact]
    public void The_filter_is_told_and_its_first_change_since()
    {
        Start();
        ReceiveFilter first = _card.QueryFilter();
        Assert.Equal((true, FilterState.Normal, FilterState.Normal, FilterState.None, true, "52:54:00:12:34:56"),
            (first.Promiscuous, first.Multicast, first.Unicast, first.Vlan, first.BroadcastAllowed, first.MainMac));
        Assert.Empty(first.VlanTable);
        Send(0, 0, 0);
        Send(0, 3, 1);
        Send(0, 5, 1);
        Send(2, 0, 7, 0);
        Send(2, 0, 9, 1);
        Send(1, 0, [2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 1, 0, 0, 0, 1, 0, 0x5E, 0, 0, 1]);
        Assert.Equal(1, _filterChanges);
        ReceiveFilter now = _card.QueryFilter();
        Assert.Equal((false, FilterState.None, false, FilterState.Normal),
            (now.Promiscuous, now.Multicast, now.BroadcastAllowed, now.Vlan));
        Assert.Equal([265, 7], now.VlanTable);
        Assert.Equal(["02:00:00:00:00:02", "02:00:00:00:00:01"], now.UnicastTable);
        Assert.Equal(["01:00:5e:00:00:01"], now.MulticastTable);
        Send(0, 77, 1);                                            // no such mode: nothing changed
        Send(3, 0);
        Assert.Equal(1, _filterChanges);
        Send(1, 1, 2, 2, 2, 2, 2, 2);
        Assert.Equal(2, _filterChanges);
        Assert.Equal("02:02:02:02:02:02", _card.QueryFilter().MainMac);
    }

    [Fact]
    public void It_announces_itself_and_asks_its_driver_to()
    {
        const uint Status = 6;
        Start();
        _card.Announce();
        byte[] frame = Assert.Single(_wire.Sent).Frame;
        Assert.Equal([.. Enumerable.Repeat((byte)0xFF, 6), .. Mac, 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3, .. Mac,
            0, 0, 0, 0, .. Mac, 0, 0, 0, 0, .. new byte[18]], frame);
        Assert.Equal(3u, _guest.Config(Status, 2));
        Assert.Equal(2, _guest.Isr);
        _card.Announce();
        Assert.Equal(0, _guest.Isr);                               // it was asked already
        Assert.Equal(0, Send(3, 0));
        Assert.Equal(1u, _guest.Config(Status, 2));
        _card.SetLink(false);
        _wire.Sent.Clear();
        _card.Announce();
        Assert.Empty(_wire.Sent);
    }

    byte Send(byte kind, byte command, params byte[] data)
    {
        _bench.Memory.Space.Write(Command, [kind, command, .. data]);
        _bench.Memory.Space.Write(Answer, 1, 0xEE);
        Request(Control, (Command, 2 + data.Length), (Answer, -1));
        return _bench.Memory.Bytes(Answer, 1)[0];
    }
}
