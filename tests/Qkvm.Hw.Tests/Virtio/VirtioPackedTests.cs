using Qkvm.Core.Block;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Cards over packed rings: each lets its queue wrap, and takes chains back that it has put back.</summary>
public sealed class VirtioPackedTests : IDisposable
{
    const ulong Data = 0x200000, Header = 0x220000, StatusByte = 0x221000;
    static readonly VirtioPciOptions Packed = new(0x00FF00, 4, Packed: true);

    readonly PciBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Rings_are_packed_only_for_drivers_that_ask()
    {
        var net = new VirtioNet("net", new NetWire(), new byte[6], new VirtioNetOptions(), _bench.Loop,
            _bench.Pump.Post);
        var guest = new VirtioGuest(_bench, net, Packed);
        Assert.NotEqual(0u, guest.Offered & VirtioFeatures.RingPacked);
        guest.Start(~VirtioFeatures.RingPacked);
        Assert.IsType<SplitQueue>(guest.Function.Control.Queues[0]);
        guest.Start();
        Assert.IsType<PackedQueue>(guest.Function.Control.Queues[0]);
    }

    [Fact]
    public void Off_by_default()
    {
        var guest = new VirtioGuest(_bench, new VirtioRng("rng", _bench.Clock, 1024, 10, bytes => bytes.Clear()));
        Assert.Equal(0u, guest.Offered & VirtioFeatures.RingPacked);
    }

    [Theory]
    [InlineData(true, 100u, 100)]                                  // 2.8: a packed ring may have any size
    [InlineData(false, 100u, 256)]
    [InlineData(true, 0u, 256)]
    [InlineData(true, 257u, 256)]
    public void A_size_that_may_be_is_taken(bool packed, uint size, int taken)
    {
        var guest = new VirtioGuest(_bench, new VirtioNet("net", new NetWire(), new byte[6], new VirtioNetOptions(),
            _bench.Loop, _bench.Pump.Post), Packed);
        guest.Status = 3;
        guest.Common(8, 4, 1);
        guest.Common(12, 4, 1 | (packed ? 4u : 0));
        guest.Status = 11;
        guest.Common(0x16, 2, 0);
        guest.Common(0x18, 2, size);
        Assert.Equal((uint)taken, guest.Common(0x18, 2));
    }

    [Fact]
    public void A_disk_serves_more_requests_than_its_ring_has_places()
    {
        var disk = new MemoryDisk(1 << 20);
        Random.Shared.NextBytes(disk.Bytes);
        var backend = new BlockBackend("drive0", _bench.Pump.Post);
        backend.Insert(disk);
        var guest = new VirtioGuest(_bench,
            new VirtioBlk("disk", backend, new VirtioBlkOptions("SN-1"), [_bench.Loop], _bench.Pump.Post), Packed);
        guest.Start();
        _bench.Pump.RunPosted();
        for (ulong i = 0; i < 300; i++)                            // of three or four places each, in a ring of 256
        {
            _bench.Memory.Space.Write(Header, 8, 0);
            _bench.Memory.Space.Write(Header + 8, 8, i);
            _bench.Memory.Space.Write(StatusByte, 1, 0xEE);
            (ulong, int)[] data = i % 2 == 0 ? [(Data, -512)] : [(Data, -100), (Data + 100, -412)];
            guest.Request(0, [(Header, 16), .. data, (StatusByte, -1)]);
            _bench.Pump.Until(() => guest.Packed[0].TakeUsed() is { Written: 513 });
            Assert.Equal(0, _bench.Memory.Bytes(StatusByte, 1)[0]);
            Assert.Equal(disk.Bytes[(int)(i * 512)..(int)(i * 512 + 512)], _bench.Memory.Bytes(Data, 512));
        }
    }

    [Fact]
    public void A_frame_waits_for_its_buffers_and_is_spread_over_them()
    {
        var wire = new NetWire();
        var guest = new VirtioGuest(_bench, new VirtioNet("net", wire, new byte[6], new VirtioNetOptions(),
            _bench.Loop, _bench.Pump.Post), Packed);
        guest.Start();
        _bench.Pump.RunPosted();
        var frame = new byte[250];
        Random.Shared.NextBytes(frame);
        frame[0] = 2;
        for (int round = 0; round < 100; round++)                  // past the end of the ring
        {
            Request(guest, 0, (Data, -100));
            Assert.False(wire.Give(frame));
            int before = wire.Resumes;
            Request(guest, 0, (Data + 100, -50), (Data + 150, -50));
            Assert.Equal(before + 1, wire.Resumes);
            Assert.False(wire.Give(frame));
            Request(guest, 0, (Data + 200, -100));
            Assert.Equal(before + 2, wire.Resumes);
            Assert.True(wire.Give(frame));
            foreach (uint part in (uint[])[100, 100, 62])
                Assert.Equal(part, guest.Packed[0].TakeUsed()!.Value.Written);
            Assert.Equal(frame, _bench.Memory.Bytes(Data + 12, 250));
        }
    }

    [Fact]
    public void Frames_are_sent_and_commands_are_answered()
    {
        var wire = new NetWire();
        var card = new VirtioNet("net", wire, new byte[6], new VirtioNetOptions(), _bench.Loop, _bench.Pump.Post);
        var guest = new VirtioGuest(_bench, card, Packed);
        guest.Start();
        _bench.Pump.RunPosted();
        for (int i = 0; i < 400; i++)
        {
            Request(guest, 1, (Data, 12), (Data + 12, 60));
            Assert.Equal(0u, guest.Packed[1].TakeUsed()!.Value.Written);
        }
        Assert.Equal(400, wire.Sent.Count);
        _bench.Memory.Space.Write(Header, [1, 1, 2, 3, 4, 5, 6, 7]);
        Request(guest, 2, (Header, 2), (Header + 2, 6), (StatusByte, -1));
        Assert.Equal(1u, guest.Packed[2].TakeUsed()!.Value.Written);
        Assert.Equal(0, _bench.Memory.Bytes(StatusByte, 1)[0]);
        Assert.Equal([2, 3, 4, 5, 6, 7], card.CurrentMac.ToArray());
    }

    void Request(VirtioGuest guest, int queue, params (ulong, int)[] buffers)
    {
        guest.Request(queue, buffers);
        _bench.Pump.RunPosted();
    }
}
