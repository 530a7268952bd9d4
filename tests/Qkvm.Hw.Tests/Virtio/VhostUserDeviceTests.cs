using System.Text;
using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Devices whose queues another process serves: here the test is the process.</summary>
public sealed class VhostUserDeviceTests : IDisposable
{
    const ulong Data = 0x200000, Flush = 1 << 9, ConfigWce = 1 << 11, Mq = 1 << 12, Discard = 1 << 13;
    const uint Writeback = 32, NumQueues = 34;

    readonly MemoryFile _file = MemoryFile.Create("ram", isShared: true);
    readonly PciBench _bench;
    readonly WatchingLoop _loop = new();
    readonly FakeVhost _peer = new()
        { Features = VirtioFeatures.EventIndex | VirtioFeatures.Version1 | Flush | ConfigWce | Mq | Discard };
    DeviceSite? _site;

    public VhostUserDeviceTests() => _bench = new PciBench(_file);

    public void Dispose() => _bench.Dispose();

    FakeBoard Board(AddressSpace? memory = null)
    {
        var board = new FakeBoard(new DeviceBench(_bench.Clock))
            { Memory = memory ?? _bench.Memory.Space, Data = _loop, Bus = _bench.Bus };
        board.Chardev.Vhost = _peer;
        return board;
    }

    VirtioPci Make(DeviceModel model, params (string, string)[] given)
    {
        _site = Board().Site;
        return (VirtioPci)model.Create(FakeBoard.Defaults(model, given), _site);
    }

    VirtioGuest Plug(DeviceModel model, params (string, string)[] given) =>
        new(_bench, Make(model, [("chardev", "c"), .. given]));

    static DeviceModel Fs => VhostUserFs.Models[0];
    static DeviceModel Blk => VhostUserBlk.Models[0];

    string Refusal(DeviceModel model, params (string, string)[] given) =>
        Assert.Throws<ConfigurationException>(() => Make(model, given)).Message;

    [Fact]
    public void A_file_system_has_its_tag_and_a_queue_of_high_priority()
    {
        VirtioGuest guest = Plug(Fs, ("tag", "türen"), ("num-request-queues", "3"), ("queue-size", "64"));
        Assert.Equal(4u, guest.Common(0x12, 2));
        Assert.Equal(64u, guest.Common(0x18, 2));
        byte[] tag = [.. Enumerable.Range(0, 36).Select(i => (byte)guest.Config((uint)i, 1))];
        Assert.Equal("türen", Encoding.UTF8.GetString(tag).TrimEnd('\0'));
        Assert.Equal(3u, guest.Config(36, 4));
        Assert.Equal((4, false), (_peer.Needs!.Queues, _peer.Needs.Resumes));
        Assert.Equal(0x105A, guest.Function.Config.Get16(2));
    }

    public static TheoryData<string, string, string> Wrong => new()
    {
        { "chardev", "", "missing chardev" },
        { "tag", "", "missing tag property" },
        { "tag", "=", "tag property cannot be empty" },
        { "tag", new string('ü', 19), "tag property must be 36 bytes or less" },
        { "num-request-queues", "0", "num-request-queues property must be larger than 0" },
        { "num-request-queues", "1024", "a device has 1023 at most" },
        { "queue-size", "100", "queue-size property must be a power of 2" },
        { "queue-size", "2048", "queue-size property must be 1024 or smaller" },
    };

    [Theory, MemberData(nameof(Wrong))]
    public void What_makes_no_file_system_is_refused(string property, string value, string message)
    {
        var given = new Dictionary<string, string> { ["chardev"] = "c", ["tag"] = "x" };
        given.Remove(property);
        if (value.Length > 0) given[property] = value == "=" ? "" : value;
        Assert.Contains(message, Refusal(Fs, [.. given.Select(g => (g.Key, g.Value))]));
    }

    [Fact]
    public void Memory_that_is_not_shared_is_refused_with_the_remedy()
    {
        using var alone = new TestMemory();
        DeviceSite site = Board(alone.Space).Site;
        string message = Assert.Throws<ConfigurationException>(() => Fs.Create(FakeBoard.Defaults(Fs, ("chardev", "c"),
            ("tag", "x")), site)).Message;
        Assert.Contains("the guest's memory is not shared", message);
        Assert.Contains("memory-backend-memfd,id=mem,size=…,share=on", message);
    }

    [Fact]
    public void The_peer_gets_the_rings_and_a_kick_on_the_drivers_thread()
    {
        VirtioGuest guest = Plug(Fs, ("tag", "x"));
        guest.Start(vectors: true);
        Assert.Equal([0, 1], _peer.Rings.Keys);
        Assert.Equal(VirtioFeatures.EventIndex | VirtioFeatures.Version1, _peer.Started);
        Assert.Equal(TestMemory.RamSize, Assert.Single(Assert.Single(_peer.Memory)).Size);
        VhostRing ring = _peer.Rings[1];
        ring.Kick.Clear();
        guest.Request(1, (Data, 40));
        Assert.True(ring.Kick.Wait(0));
        _loop.Call(ring.Call);
        Assert.Equal(2u, Assert.Single(_bench.Messages).Data);
    }

    [Fact]
    public void What_the_driver_gave_to_be_written_counts_as_written_before_the_peer_knows()
    {
        var written = new List<ulong>();
        VirtioGuest guest = Plug(Fs, ("tag", "x"));
        guest.Start();
        _bench.Memory.Ram.FlaggedPageWritten += (_, offset, _) => written.Add(offset & ~0xFFFul);
        for (ulong page = Data >> GuestRam.PageShift; page < (Data >> GuestRam.PageShift) + 8; page++)
            _bench.Memory.Ram.Watch(page, true);
        guest.Request(1, (Data, 40), (Data + 0x1000, -0x2000));
        Assert.Equal([Data + 0x1000, Data + 0x2000], written);
        written.Clear();
        guest.Queues[1].Add((Data + 0x5000, -16));                 // the peer saw it without a kick
        _loop.Call(_peer.Rings[1].Call);
        Assert.Equal([Data + 0x5000], written);
        written.Clear();
        guest.Notify(1);
        Assert.Empty(written);
    }

    [Fact]
    public void Memory_that_comes_is_the_peers_too()
    {
        VirtioGuest guest = Plug(Fs, ("tag", "x"));
        using MemoryFile file = MemoryFile.Create("more", isShared: true);
        file.SetLength(1 << 20);
        using var more = new GuestRam("more", 1 << 20, file);
        MemoryRegion region = MemoryRegion.OfRam("more", more, 0, more.Size);
        guest.Start();
        _bench.Memory.Root.Map(0x4000_0000, region);
        Assert.Equal([TestMemory.RamSize, 1 << 20], _peer.Memory[^1].Select(r => r.Size));
        _bench.Memory.Root.Map(0x5000_0000, MemoryRegion.Container("nothing", 4096));
        Assert.Equal(2, _peer.Memory.Count);
        guest.Status = 0;
        _bench.Memory.Root.Unmap(region);
        Assert.Equal(2, _peer.Memory.Count);
    }

    [Fact]
    public void A_reset_waits_until_the_peer_leaves_the_rings()
    {
        VirtioGuest guest = Plug(Fs, ("tag", "x"));
        guest.Start();
        _peer.IsSlow = true;
        guest.Status = 0;
        Assert.NotEqual(0, guest.Status);
        _peer.End();
        Assert.True(SpinWait.SpinUntil(() => guest.Status == 0, TimeSpan.FromMinutes(1)));
        Assert.Empty(_peer.Rings);
    }

    [Fact]
    public void A_ring_that_is_lost_needs_a_reset_and_state_is_not_saved_meanwhile()
    {
        VirtioGuest guest = Plug(Fs, ("tag", "x"));
        StateNode.Save(guest.Function.Control.Exchange);
        guest.Start();
        Assert.Throws<InvalidStateException>(() => StateNode.Save(guest.Function.Control.Exchange));
        _peer.Lose();
        Assert.Equal(0x4F, guest.Status);
    }

    [Fact]
    public void Whoever_unplugs_it_ends_the_peer()
    {
        Plug(Fs, ("tag", "x")).Start();
        _site!.Dispose();
        Assert.True(_peer.IsDisposed);
        _bench.Memory.Root.Map(0x5000_0000, MemoryRegion.Container("nothing", 4096));
        Assert.Single(_peer.Memory);
    }

    [Fact]
    public void A_disk_has_what_both_have_and_the_peers_configuration()
    {
        VirtioGuest guest = Plug(Blk, ("num-queues", "2"), ("discard", "off"));
        Assert.Equal(Flush | ConfigWce | Mq, guest.Offered & 0xFFFFFF);
        _peer.Show([.. Enumerable.Range(1, 60).Select(i => (byte)i)]);
        Assert.Equal(0x0807060504030201u, guest.Config(0, 8));
        Assert.Equal(2u, guest.Config(NumQueues, 2));
        Assert.Equal((60, true), (_peer.Needs!.ConfigSize, _peer.Needs.Resumes));
    }

    [Fact]
    public void A_change_of_the_disk_is_told_and_the_cache_mode_goes_to_the_peer()
    {
        VirtioGuest guest = Plug(Blk);
        guest.Start();
        _peer.Show(new byte[60]);
        Assert.Equal(2, guest.Isr);
        guest.Config(Writeback, 1, 1);
        (int offset, byte[] data) = Assert.Single(_peer.Written);
        Assert.Equal(32, offset);
        Assert.Equal([1], data);
        guest.Config(0, 4, 7);                                     // nobody may change its size
        guest.Config(Writeback, 1, 0);                             // as it is
        Assert.Single(_peer.Written);
    }

    [Fact]
    public void The_next_peer_gets_what_the_last_one_had_in_flight()
    {
        VirtioGuest guest = Plug(Blk, ("queue-size", "8"));
        guest.Start();
        GuestQueue queue = guest.Queues[0];
        VhostRing ring = _peer.Rings[0];
        Assert.Equal(0u, ring.PositionAfterLoss());
        for (uint i = 0; i < 4; i++) guest.Request(0, (Data + 0x1000 * i, 64));
        ushort[] heads = [.. Enumerable.Range(0, 4).Select(Available)];
        Use(0, heads[2]);
        Use(1, heads[0]);
        Assert.Equal(2u, ring.PositionAfterLoss());
        Assert.Equal(new[] { heads[1], heads[3] }.Order(), new[] { Available(2), Available(3) }.Order());
        Use(2, heads[1]);
        Use(3, heads[3]);
        Assert.Equal(4u, ring.PositionAfterLoss());
        for (ushort i = 4; i < 20; i++) Use(i, 0);                 // more than a ring that nobody saw
        _bench.Memory.Space.Write(queue.Available + 2, 2, 21);
        Assert.Null(ring.PositionAfterLoss());

        ushort Available(int index) => (ushort)_bench.Memory.Space.Read(queue.Available + 4 + 2 * (ulong)index, 2);

        void Use(ushort index, ushort head)
        {
            _bench.Memory.Space.Write(queue.Used + 4 + 8 * (ulong)(index % 8), 4, head);
            _bench.Memory.Space.Write(queue.Used + 2, 2, index + 1u);
        }
    }

    [Theory]
    [InlineData("num-queues", "0", "invalid number of IO queues")]
    [InlineData("num-queues", "1025", "invalid number of IO queues")]
    [InlineData("queue-size", "0", "queue size must be non-zero")]
    [InlineData("queue-size", "24", "must be a power of 2")]
    [InlineData("queue-size", "2048", "must be a power of 2")]
    public void What_makes_no_disk_is_refused(string property, string value, string message) =>
        Assert.Contains(message, Refusal(Blk, ("chardev", "c"), (property, value)));

    [Fact]
    public void A_socket_device_has_the_peers_address_and_a_queue_that_nobody_serves()
    {
        VirtioGuest guest = Plug(VhostUserVsock.Models[0]);
        _peer.Show([9, 0, 0, 0, 0, 0, 0, 0]);
        Assert.Equal(9u, guest.Config(0, 8));
        guest.Start();
        Assert.Equal([0, 1], _peer.Rings.Keys);
        guest.Request(2, (Data, -8));
        Assert.Null(guest.Queues[2].TakeUsed());
        Assert.Contains("VIRTIO_VSOCK_F_SEQPACKET", Refusal(VhostUserVsock.Models[0], ("chardev", "c"),
            ("seqpacket", "on")));
    }

    [Fact]
    public void Entropy_comes_by_one_ring()
    {
        VirtioGuest guest = Plug(VhostUserRng.Models[0]);
        guest.Start();
        VhostRing ring = Assert.Single(_peer.Rings).Value;
        Assert.Equal(4, ring.Size);
        Assert.Contains("missing chardev", Refusal(VhostUserRng.Models[0]));
    }
}
