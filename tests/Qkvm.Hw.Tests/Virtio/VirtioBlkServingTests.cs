using Qkvm.Core.Block;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Who serves a disk whose loop sleeps: the thread that rings, where that waits for nothing.</summary>
public sealed class VirtioBlkServingTests : IDisposable
{
    const ulong Header = 0x20000, Data = 0x21000, StatusByte = 0x2F000;
    const uint In = 0, Out = 1;

    readonly PciBench _bench = new();
    readonly MemoryDisk _disk = new(1 << 20) { IsCached = true };
    readonly SleepyLoop _loop;
    readonly VirtioGuest _guest;

    public VirtioBlkServingTests()
    {
        _loop = new SleepyLoop(_bench.Pump);
        var backend = new BlockBackend("drive0", _bench.Pump.Post);
        backend.Insert(_disk);
        _guest = new VirtioGuest(_bench,
            new VirtioBlk("disk", backend, new VirtioBlkOptions(), [_loop], _bench.Pump.Post));
        Random.Shared.NextBytes(_disk.Bytes);
        _guest.Start(~VirtioFeatures.EventIndex, vectors: true);   // each used buffer interrupts
        _loop.WakeUp();
    }

    public void Dispose() => _bench.Dispose();

    void Begin(uint type, ulong sector, int length)
    {
        _bench.Memory.Space.Write(Header, 4, type);
        _bench.Memory.Space.Write(Header + 8, 8, sector);
        _bench.Memory.Space.Write(StatusByte, 1, 0xEE);
        _guest.Request(0, [(Header, 16), (Data, length), (StatusByte, -1)]);
    }

    [Fact]
    public void What_can_be_read_at_once_is_there_when_the_doorbell_s_write_returns()
    {
        Begin(In, 3, -512);
        Assert.NotNull(_guest.Queues[0].TakeUsed());
        Assert.Equal(0, _bench.Memory.Bytes(StatusByte, 1)[0]);
        Assert.Equal(_disk.Bytes[1536..2048], _bench.Memory.Bytes(Data, 512));
    }

    [Fact]
    public void Its_interrupt_comes_with_it_once_waiting_for_more_was_in_vain()
    {
        Begin(In, 0, -512);
        _loop.WakeUp();                                            // waited for more of them
        Assert.Single(_bench.Messages);
        Begin(In, 0, -512);
        Assert.Equal(2, _bench.Messages.Count);
        Begin(In, 0, -512);
        Assert.Equal(3, _bench.Messages.Count);
    }

    [Fact]
    public void What_would_wait_is_the_loop_s()
    {
        Begin(Out, 3, 512);
        Assert.Null(_guest.Queues[0].TakeUsed());
        Assert.Empty(_disk.Log);
        _bench.Pump.Until(() => _guest.Queues[0].TakeUsed() != null);
        Assert.Equal(["write 1536+512"], _disk.Log);
    }

    [Fact]
    public void A_device_that_was_reset_serves_nobody()
    {
        Begin(In, 0, -512);
        Assert.NotNull(_guest.Queues[0].TakeUsed());
        _guest.Status = 0;
        Begin(In, 0, -512);
        Assert.Null(_guest.Queues[0].TakeUsed());
    }
}
