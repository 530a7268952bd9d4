using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Net;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>usb-net by CDC's Ethernet model and by RNDIS, whose numbers are restated here.</summary>
public sealed class UsbNetTests
{
    const byte Cdc = 1, Rndis = 2, Class = 0x21, ClassIn = 0xA1, Out = 2, In = 2, Status = 1;
    static readonly byte[] s_mac = [0x52, 0x54, 0, 1, 2, 3];

    readonly PciBench _pci = new();
    readonly NetWire _wire = new();
    readonly UsbBench _bench = new();
    readonly UsbNet _card;

    public UsbNetTests()
    {
        _card = Make(_wire);
        _bench.Port.Attach(_card);
    }

    UsbNet Make(NetWire wire) => new(FakeBoard.Defaults(UsbNet.Model),
        new NetCardSite(wire, s_mac, _pci.Loop, _pci.Clock));

    /// <summary>For everybody, with a tail of these bytes.</summary>
    static byte[] Frame(int length, byte to = 0xFF) =>
        [.. Enumerable.Repeat(to, 6), .. s_mac, 8, 0, .. Enumerable.Range(14, length - 14).Select(i => (byte)i)];

    void Choose(byte configuration)
    {
        Assert.True(_bench.Tell(0, 9, configuration));
        if (configuration == Cdc) Assert.True(_bench.Tell(1, 11, 1, 1)); // the alternate setting with endpoints
    }

    void Send(byte[] transfer)
    {
        foreach (byte[] packet in transfer.Chunk(64))
            Assert.Equal(UsbStatus.Success, _bench.Send(UsbToken.Out, Out, packet));
        if (transfer.Length % 64 == 0) Assert.Equal(UsbStatus.Success, _bench.Send(UsbToken.Out, Out, []));
    }

    byte[] Take()
    {
        var all = new List<byte>();
        while (_bench.Receive(In) is { } packet)
        {
            all.AddRange(packet);
            if (packet.Length < 64) break;
        }
        return [.. all];
    }

    static byte[] Words(params uint[] words) => [.. words.SelectMany(BitConverter.GetBytes)];

    /// <summary>A message, whose length is written into it, and its answer.</summary>
    uint[] Say(uint type, params uint[] words)
    {
        byte[] message = Words([type, 0, .. words]);
        BinaryPrimitives.WriteInt32LittleEndian(message.AsSpan(4), message.Length);
        Assert.True(_bench.Tell(Class, 0, 0, 0, message));
        Assert.Equal([1, 0, 0, 0, 0, 0, 0, 0], _bench.Receive(Status));
        return Answer();
    }

    uint[] Answer() => [.. _bench.Ask(ClassIn, 1, length: 1025)!.Chunk(4).Select(word => BitConverter.ToUInt32(
        [.. word, .. new byte[4 - word.Length]]))];

    [Fact]
    public void It_says_what_it_is_in_two_ways()
    {
        byte[] device = _bench.Descriptor(1)!;
        Assert.Equal("12010002020000402505A2A4000001020A02", Convert.ToHexString(device));
        Assert.Equal((Rndis, Cdc), (_bench.Descriptor(2, 0)![5], _bench.Descriptor(2, 1)![5]));
        Assert.Equal("525400010203", Encoding.Unicode.GetString(_bench.Descriptor(3, 3)!.AsSpan(2)));
    }

    [Theory]
    [InlineData(60)] [InlineData(64)] [InlineData(128)] [InlineData(1514)]
    public void Frames_pass_both_ways(int length)
    {
        Choose(Cdc);
        byte[] frame = Frame(length);
        Send(frame);
        Assert.Equal(frame, Assert.Single(_wire.Sent).Frame);
        Assert.True(_wire.Give(frame));
        Assert.False(_wire.Give(frame));                           // one at a time
        Assert.Equal([0x82], _bench.Wakes.Where(wake => wake == 0x82));
        Assert.Equal(frame, Take());
        Assert.Null(_bench.Receive(In));
        Assert.True(_wire.Give(frame));
    }

    [Fact]
    public void Frames_that_are_none_are_dropped()
    {
        Choose(Cdc);
        Send(new byte[13]);
        Send(Frame(1515));
        Send(Frame(5000));
        Send(Frame(1514));
        Assert.Equal(1514, Assert.Single(_wire.Sent).Frame.Length);
        Assert.True(_wire.Give(Frame(1515)));
        Assert.True(_wire.Give(new byte[5]));
        Assert.Null(_bench.Receive(In));
    }

    [Fact]
    public void Nothing_comes_until_the_host_listens_and_only_what_it_wants()
    {
        Assert.True(_bench.Tell(0, 9, Cdc));
        Assert.True(_wire.Give(Frame(60)));
        Choose(Cdc);
        Assert.Null(_bench.Receive(In));
        Assert.True(_bench.Tell(Class, 0x43, 4));                  // what is sent to it alone
        Assert.True(_wire.Give(Frame(60)));
        Assert.Null(_bench.Receive(In));
        byte[] own = [.. s_mac, .. Frame(60)[6..]];
        Assert.True(_wire.Give(own));
        Assert.Equal(own, Take());
    }

    [Fact]
    public void The_host_hears_of_its_cable()
    {
        Choose(Cdc);
        Assert.Equal([0xA1, 0, 1, 0, 0, 0, 0, 0], _bench.Receive(Status));
        Assert.Null(_bench.Receive(Status));
        _card.SetLink(false);
        Assert.Equal([0xA1, 0, 0, 0, 0, 0, 0, 0], _bench.Receive(Status));
        Send(Frame(60));
        Assert.Empty(_wire.Sent);
    }

    [Fact]
    public void Rndis_is_initialized_asked_and_carries_frames()
    {
        Choose(Rndis);
        Assert.Equal([0x8000_0002, 52, 77, 0, 1, 0, 1, 0, 1, 1558, 0, 0, 0], Say(2, 77, 1, 0, 0x4000));
        Assert.Equal([0x8000_0004, 30, 78, 0, 6, 16, 0x0100_5452, 0x0302], Say(4, 78, 0x0101_0101, 0, 0, 0));
        Assert.Equal([0x8000_0004, 28, 79, 0, 4, 16, 0], Say(4, 79, 0x0001_0114, 0, 0, 0)); // connected
        Assert.Equal([0x8000_0004, 24, 80, 0xC000_00BB, 0, 0], Say(4, 80, 0xFFFF_FFFF, 0, 0, 0));
        Assert.Equal([0x8000_0008, 16, 81, 0], Say(8, 81));
        Assert.True(_wire.Give(Frame(60)));
        Assert.Null(_bench.Receive(In));                           // no filter yet
        Assert.Equal([0x8000_0005, 16, 82, 0], Say(5, 82, 0x0001_010E, 4, 20, 0, 9));
        Assert.True(_wire.Give(Frame(60)));
        byte[] message = Take();
        Assert.Equal(Words(1, 104, 36, 60), message[..16]);
        Assert.Equal(Frame(60), message[44..]);
        Send([.. Words(1, 104, 36, 60, 0, 0, 0, 0, 0, 0, 0), .. Frame(60),
            .. Words(1, 144, 36, 100, 0, 0, 0, 0, 0, 0, 0), .. Frame(100)]);
        Assert.Equal([60, 100], _wire.Sent.Select(sent => sent.Frame.Length));
        _card.SetLink(false);
        Assert.Equal([7, 20, 0x4001_000C, 0, 0], Answer());
        Assert.Equal([0u], Answer());                              // a zero: none waits
    }

    [Theory]
    [InlineData(1u, 104u, 0xFFFF_FFF0u, 60u)] [InlineData(1u, 104u, 36u, 61u)] [InlineData(9u, 104u, 36u, 60u)]
    [InlineData(1u, 0u, 36u, 60u)] [InlineData(1u, 0xFFFF_FFFFu, 36u, 60u)] [InlineData(1u, 44u, 36u, 60u)]
    public void Messages_that_lie_carry_no_frame(uint type, uint length, uint offset, uint count)
    {
        Choose(Rndis);
        Say(2, 1, 1, 0, 0x4000);
        Send([.. Words(type, length, offset, count, 0, 0, 0, 0, 0, 0, 0), .. Frame(60)]);
        Assert.Empty(_wire.Sent);
        Send([.. Words(1, 104, 36, 60, 0, 0, 0, 0, 0, 0, 0), .. Frame(60)]);
        Assert.Single(_wire.Sent);
    }

    [Fact]
    public void Answers_that_nobody_reads_are_bounded()
    {
        Choose(Rndis);
        byte[] question = Words(4, 28, 1, 0x0001_0101, 0, 0, 0);
        int taken = 0;
        while (taken < 1000 && _bench.Tell(Class, 0, 0, 0, question)) taken++;
        Assert.InRange(taken, 8, 100);
        Assert.False(_bench.Tell(Class, 0, 0, 0, Words(4, 2000, 1, 0x0001_0101)));
        Assert.False(_bench.Tell(Class, 0, 0, 0, 1, 2, 3));
    }

    [Fact]
    public void State_is_kept()
    {
        Choose(Rndis);
        Say(2, 1, 1, 0, 0x4000);
        Say(5, 82, 0x0001_010E, 4, 20, 0, 9);
        _wire.Give(Frame(100));
        _bench.Receive(In);
        var bench = new UsbBench();
        UsbNet other = Make(new NetWire());
        bench.Port.Attach(other);
        StateNode saved = StateNode.Save(_card.Exchange);
        saved.Load(other.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(other.Exchange).ToString());
        Assert.Equal(_bench.Receive(In), bench.Receive(In));
    }
}
