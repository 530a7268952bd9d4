using System.Buffers.Binary;
using Qkvm.Backends.Net;
using Qkvm.Backends.Net.Hub;
using Qkvm.Backends.Net.Sockets;
using Qkvm.Core.Net;
using Qkvm.Host.Sockets;
using static Qkvm.Backends.Tests.Net.TestCard;

namespace Qkvm.Backends.Tests.Net;

/// <summary>Hubs, cut cables and filters, over real backends.</summary>
public sealed class NetLinkTests : IDisposable
{
    readonly TestLoop _loop = new();
    readonly string _folder = Directory.CreateTempSubdirectory("net").FullName;
    readonly FakeHost _host;
    readonly List<IDisposable> _made = [];

    public NetLinkTests() => _host = new FakeHost(_loop.Loop);

    public void Dispose()
    {
        _made.Reverse();
        _loop.Do(() => _made.ForEach(made => made.Dispose()));
        _loop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void A_hub_passes_each_frame_to_all_others_but_not_back()
    {
        TestCard a = Card(Port("p0", 0)), b = Card(Port("p1", 0)), other = Card(Port("q", 1));
        (TestCard far, NetBackend near) = Cable();
        Make(HubPort.Model, "id=p2,hubid=0,netdev=" + near.Id);
        a.Send(Frame(1));
        Assert.Equal(Frame(1), b.Next());
        Assert.Equal(Frame(1), far.Next());
        far.Send(Frame(2));
        Assert.Equal(Frame(2), a.Next());                          // the first that it gets: nothing came back
        Assert.Equal(Frame(2), b.Next());
        Assert.Equal(0, other.Waiting);
    }

    [Fact]
    public void A_card_without_room_delays_nobody_at_its_hub_and_loses_what_is_too_much()
    {
        TestCard a = Card(Port("p0", 0)), slow = Card(Port("p1", 0)), b = Card(Port("p2", 0));
        slow.Refuses = true;
        for (int i = 0; i < 3000; i++)
        {
            a.Send(Frame((byte)i));
            Assert.Equal(Frame((byte)i), b.Next());
        }
        slow.Refuses = false;
        slow.Queue.Resume();
        for (int i = 0; i < 1024; i++) Assert.Equal(Frame((byte)i), slow.Next());
        _loop.Do(() => { });
        Assert.Equal(0, slow.Waiting);
    }

    [Fact]
    public void A_cut_cable_loses_frames_in_both_directions_until_it_is_whole()
    {
        (TestCard far, NetBackend near) = Cable();
        TestCard card = Card(near);
        near.Link.IsUp = false;
        card.Send(Frame(1));
        far.Send(Frame(2));
        far.Send(Frame(3));
        _loop.Await(() => true);
        Thread.Sleep(50);                                          // what comes later would be seen below
        near.Link.IsUp = true;
        card.Send(Frame(4));
        far.Send(Frame(5));
        Assert.Equal(Frame(4), far.Next());
        Assert.Equal(Frame(5), card.Next());
    }

    [Theory]
    [InlineData("", new[] { 4, 5 })]
    [InlineData(",queue=tx", new[] { 4 })]
    [InlineData(",queue=rx", new[] { 5 })]
    [InlineData(",status=off", new int[0])]
    public void A_dump_has_what_passes_as_pcap(string options, int[] numbers)
    {
        string path = Path.Combine(_folder, "dump.pcap");
        (TestCard far, NetBackend near) = Cable();
        TestCard card = Card(near);
        var dump = (FilterDump)_loop.Do(() => FilterDump.Model.Create(new Properties(FilterDump.Model,
            Options.Parse($"id=f,netdev={near.Id},file={path},maxlen=64{options}", "-object filter-dump")), _host));
        card.Send(Frame(4));
        Assert.Equal(Frame(4), far.Next());
        far.Send(Frame(5));
        Assert.Equal(Frame(5), card.Next());
        _loop.Do(() => Assert.Equal([dump], near.Link.Filters));
        _loop.Do(dump.Dispose);
        far.Send(Frame(6));
        Assert.Equal(Frame(6), card.Next());                       // none of the dump's any more
        byte[] file = File.ReadAllBytes(path);
        Assert.Equal([0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 1, 0, 0, 0], file[..24]);
        int at = 24;
        foreach (int number in numbers)
        {
            Assert.Equal(64, BinaryPrimitives.ReadInt32LittleEndian(file.AsSpan(at + 8)));
            Assert.Equal(100, BinaryPrimitives.ReadInt32LittleEndian(file.AsSpan(at + 12)));
            Assert.Equal(Frame((byte)number)[..64], file[(at + 16)..(at + 80)]);
            at += 80;
        }
        Assert.Equal(at, file.Length);
    }

    [Fact]
    public void What_a_card_leaves_undone_is_finished_in_a_dump()
    {
        string path = Path.Combine(_folder, "dump.pcap");
        (_, NetBackend near) = Cable();
        TestCard card = Card(near);
        var dump = (FilterDump)_loop.Do(() => FilterDump.Model.Create(new Properties(FilterDump.Model,
            Options.Parse($"id=f,netdev={near.Id},file={path}", "-object filter-dump")), _host));
        var frame = new byte[14 + 20 + 20 + 3000];                 // TCP over IPv4, to be cut at 1000 bytes
        frame[12] = 8;
        (frame[14], frame[16], frame[17], frame[22], frame[23]) = (0x45, 3040 >> 8, 3040 & 0xFF, 64, 6);
        frame[14 + 20 + 12] = 0x50;
        var header = new NetHeader(NeedsChecksum: true, Segmentation: Segmentation.Tcp4, HeaderLength: 54,
            SegmentSize: 1000, ChecksumStart: 34, ChecksumOffset: 16);
        card.Send(frame, header);
        card.Send(frame, header with { ChecksumStart = 60_000 });  // makes no sense
        _loop.Do(dump.Dispose);
        byte[] file = File.ReadAllBytes(path);
        Assert.Equal(24 + 3 * (16 + 1054), file.Length);
        for (int at = 24 + 16; at < file.Length; at += 16 + 1054)
        {
            var layout = FrameLayout.Of(file.AsSpan(at, 1054));
            Assert.True(FrameFinisher.IsIp4HeaderRight(layout, file.AsSpan(at, 1054)));
            Assert.True(FrameFinisher.IsTransportRight(layout, file.AsSpan(at, 1054)));
        }
    }

    [Fact]
    public void A_dump_that_cannot_be_made_says_why()
    {
        (_, NetBackend near) = Cable();
        Assert.Equal("-object filter-dump: netdev=x: there is no such network backend; give -netdev …,id=x",
            Fails("id=f,netdev=x,file=/tmp/x"));
        Assert.Equal("-object filter-dump: dump filter needs 'file' property set!", Fails("id=f,netdev=" + near.Id));
        Assert.StartsWith("-object filter-dump: net dump: can't open /nowhere/x: ",
            Fails($"id=f,netdev={near.Id},file=/nowhere/x"));

        string Fails(string options) => Assert.Throws<ConfigurationException>(() => FilterDump.Model.Create(
            new Properties(FilterDump.Model, Options.Parse(options, "-object filter-dump")), _host)).Message;
    }

    NetBackend Port(string id, int hub) => Make(HubPort.Model, $"id={id},hubid={hub}");

    TestCard Card(NetBackend backend) => new(backend.Link, _loop);

    NetBackend Make(NetModel model, string options) => _loop.Do(() => Keep(model.Create(
        new Properties(model, Options.Parse(options, $"-netdev {model.Name}")), _host)));

    /// <summary>A backend, and the card at its other end.</summary>
    (TestCard Far, NetBackend Near) Cable()
    {
        string here = Path.Combine(_folder, $"a{_made.Count}"), there = Path.Combine(_folder, $"b{_made.Count}");
        NetBackend far = Keep(new DatagramNet($"far{_made.Count}", "dgram", DatagramSocket.Open(new UnixAddress(there),
            new UnixAddress(here)), ""));
        NetBackend near = Keep(new DatagramNet($"near{_made.Count}", "dgram", DatagramSocket.Open(new UnixAddress(here),
            new UnixAddress(there)), ""));
        return (new TestCard(far, _loop), near);
    }

    NetBackend Keep(NetBackend backend)
    {
        if (backend is IDisposable disposable) _made.Add(disposable);
        return _host.Backends.Netdevs[backend.Id] = backend;
    }
}
