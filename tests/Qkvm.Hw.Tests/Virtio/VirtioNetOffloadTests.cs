using Qkvm.Core.Net;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Checksums, segmentation and several queues. Virtio 1.2, section 5.1; its numbers are restated
/// here.</summary>
public sealed class VirtioNetOffloadTests : IDisposable
{
    const ulong Data = 0x200000, Command = 0x210000, Answer = 0x211000;
    const ulong Csum = 1 << 0, GuestCsum = 1 << 1, GuestTso4 = 1 << 7, HostTso4 = 1 << 11, CtrlVq = 1 << 17,
        Mq = 1 << 22, SpeedDuplex = 1UL << 63;
    const NetOffloads All = NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6 | NetOffloads.TsoEcn
        | NetOffloads.Uso;
    const byte MqClass = 4, OffloadsClass = 5;

    static readonly NetHeader Tso = new(true, false, Segmentation.Tcp4, 54, 1448, 34, 16);

    readonly PciBench _bench = new();
    NetWire _wire = null!;
    VirtioGuest _guest = null!;

    public void Dispose() => _bench.Dispose();

    void Plug(NetOffloads offloads = All, int queues = 1, VirtioNetOptions? options = null)
    {
        _wire = new NetWire(offloads, queues);
        _guest = new VirtioGuest(_bench, new VirtioNet("net", _wire, [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            (options ?? new VirtioNetOptions()) with { Pairs = queues }, _bench.Loop, _bench.Pump.Post));
    }

    void Start(ulong features = ulong.MaxValue)
    {
        _guest.Start(features);
        _bench.Pump.RunPosted();
    }

    void Request(int queue, params (ulong Address, int Length)[] buffers)
    {
        _guest.Request(queue, buffers);
        _bench.Pump.RunPosted();
    }

    void Send(ReadOnlySpan<byte> header, int queue = 1)
    {
        _bench.Memory.Space.Write(Data, header);
        Request(queue, (Data, 12 + 100));
    }

    static byte[] Raw(NetHeader header)
    {
        var raw = new byte[12];
        header.Write(raw);
        return raw;
    }

    byte Order(int queue, byte kind, params byte[] data)
    {
        _bench.Memory.Space.Write(Command, [kind, 0, .. data]);
        _bench.Memory.Space.Write(Answer, 1, 0xEE);
        Request(queue, (Command, 2 + data.Length), (Answer, -1));
        return _bench.Memory.Bytes(Answer, 1)[0];
    }

    [Theory]
    [InlineData(NetOffloads.None, 0UL)]
    [InlineData(NetOffloads.Checksum, Csum | GuestCsum)]
    [InlineData(NetOffloads.Tso4, 0UL)]                            // which is nothing without checksums
    [InlineData(NetOffloads.Checksum | NetOffloads.Tso4, Csum | GuestCsum | GuestTso4 | HostTso4)]
    public void It_offers_what_the_backend_can_do(NetOffloads backend, ulong expected)
    {
        Plug(backend);
        Assert.Equal(expected, _guest.Offered & (Csum | GuestCsum | GuestTso4 | HostTso4));
    }

    [Fact]
    public void A_header_passes_in_both_directions()
    {
        Plug();
        Start();
        Assert.Equal(All, _wire.Accepted);
        Send(Raw(Tso));
        Assert.Equal(Tso, Assert.Single(_wire.Sent).Header);
        Request(0, (Data, -1526));
        Assert.True(_wire.Give(new byte[60], Tso with { IsChecked = true }));
        Assert.Equal([3, 1, 54, 0, 0xA8, 5, 34, 0, 16, 0, 1, 0], _bench.Memory.Bytes(Data, 12));
    }

    [Fact]
    public void A_driver_without_offloads_is_not_listened_to_and_gets_none()
    {
        Plug();
        Start(~(Csum | GuestCsum | 0x7F80UL | 1UL << 54 | 1UL << 55 | 1UL << 56 | 1 << 6));
        Assert.Equal(NetOffloads.None, _wire.Accepted);
        Send([.. Enumerable.Repeat((byte)0xFF, 12)]);
        Assert.Equal(default, Assert.Single(_wire.Sent).Header);
        Request(0, (Data, -1526));
        Assert.True(_wire.Give(new byte[60], Tso));                // from before its time: dropped
        Assert.Equal(0, _guest.Queues[0].UsedIndex);
        Assert.True(_wire.Give(new byte[60], new NetHeader(IsChecked: true)));
        Assert.Equal(new byte[10], _bench.Memory.Bytes(Data, 10));
    }

    [Fact]
    public void Whatever_a_driver_writes_into_headers_backends_see_what_was_negotiated()
    {
        Plug();
        Start(~(HostTso4 | 1 << 6));
        var random = new Random(1);
        var header = new byte[12];
        for (int i = 0; i < 2000; i++)
        {
            random.NextBytes(header);
            if (i % 2 == 0) header[1] &= 0x85;
            Send(header);
            Assert.NotNull(_guest.Queues[1].TakeUsed());
        }
        Assert.Equal(0, _guest.Status & VirtioStatus.NeedsReset);
        Assert.NotEmpty(_wire.Sent);
        Assert.All(_wire.Sent, sent =>
        {
            Assert.False(sent.Header.IsChecked);
            Assert.Equal(0, (int)sent.Header.LeftUndone!.Value & (int)NetOffloads.Tso4);
        });
    }

    [Fact]
    public void The_driver_changes_what_it_takes_while_it_runs()
    {
        Plug();
        Start();
        Assert.Equal(0, Order(2, OffloadsClass, 2, 0, 0, 0, 0, 0, 0, 0));
        Assert.Equal(NetOffloads.Checksum, _wire.Accepted);
        Assert.Equal(1, Order(2, OffloadsClass, 0, 0, 1, 0, 0, 0, 0, 0)); // MRG_RXBUF is none of them
        Assert.Equal(1, Order(2, OffloadsClass, 2));
        Assert.Equal(NetOffloads.Checksum, _wire.Accepted);
    }

    [Fact]
    public void Pairs_of_queues_open_as_the_driver_asks()
    {
        Plug(queues: 3);
        Start();
        Assert.Equal((3UL, 7), (_guest.Config(8, 2), _guest.Queues.Count));
        Assert.Equal([0], _wire.Open());
        Assert.Equal(0, Order(6, MqClass, 2, 0));
        Assert.Equal([0, 1], _wire.Open());
        Request(2, (Data, -1526));
        Assert.True(_wire.Give(new byte[60], queue: 1));
        Assert.Equal(1, _guest.Queues[2].UsedIndex);
        Send(Raw(default), queue: 3);
        Assert.Single(_wire.Sent);
        Send(Raw(default), queue: 5);                              // not in use: its frames go nowhere
        Assert.Single(_wire.Sent);
        foreach (byte[] pairs in new byte[][] { [0, 0], [4, 0], [0xFF, 0xFF], [1] })
            Assert.Equal(1, Order(6, MqClass, pairs));
        Assert.Equal([0, 1], _wire.Open());
        _guest.Status = 0;
        Assert.Equal([0], _wire.Open());
    }

    [Fact]
    public void Without_MQ_the_control_queue_is_the_third()
    {
        Plug(queues: 2);
        Start(~Mq);
        Assert.Equal(0, Order(2, 0, 1));                           // promiscuous
        Assert.Equal(1, Order(2, MqClass, 2, 0));
        Start(~(Mq | CtrlVq));
        Assert.Equal(0xEE, Order(2, 0, 1));                        // there is none
    }

    [Fact]
    public void Speed_is_told_where_it_was_given()
    {
        Plug(options: new VirtioNetOptions(Speed: 10000, FullDuplex: true));
        Assert.True((_guest.Offered & SpeedDuplex) != 0);
        Assert.Equal((10000UL, 1UL), (_guest.Config(12, 4), _guest.Config(16, 1)));
    }

    [Fact]
    public void Sending_and_receiving_allocate_nothing()
    {
        Plug();
        Start();
        for (int i = 0; i < 100; i++) Round();
        _wire.IsDeaf = true;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++) Round();
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100 * 100);

        void Round()
        {
            _guest.Request(0, s_buffer);
            _guest.Request(1, s_frame);
            _bench.Pump.RunPosted();
            _wire.Give(s_bytes);
        }
    }

    static readonly (ulong, int)[] s_buffer = [(Data, -1526)], s_frame = [(Data, 112)];
    static readonly byte[] s_bytes = new byte[60];
}
