using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class VirtioRngTests : IDisposable
{
    const ulong Data = 0x20000;

    readonly PciBench _bench = new();

    public void Dispose() => _bench.Dispose();

    VirtioGuest Guest(long limit) =>
        new(_bench, new VirtioRng("rng", _bench.Clock, limit, 10, bytes => bytes.Fill(0x5A)));

    [Fact]
    public void The_limit_of_a_period_makes_requests_wait_for_the_next()
    {
        VirtioGuest guest = Guest(24);
        guest.Start();
        guest.Request(0, (Data, -16));
        guest.Request(0, (Data, -16));
        guest.Request(0, (Data, -16));
        Assert.Equal((0u, 16u), guest.Queues[0].TakeUsed());
        Assert.Equal((1u, 8u), guest.Queues[0].TakeUsed());
        Assert.Null(guest.Queues[0].TakeUsed());
        _bench.Clock.Advance(10_000_000);
        Assert.Equal((2u, 16u), guest.Queues[0].TakeUsed());
    }

    [Fact]
    public void One_request_gets_64_KiB_at_most()
    {
        VirtioGuest guest = Guest(long.MaxValue);
        guest.Start();
        guest.Request(0, (0x100000 + 0x80000, -0x80000), (0x100000 + 0x80000, -0x80000));
        Assert.Equal((0u, 65536u), guest.Queues[0].TakeUsed());
    }

    [Fact]
    public void A_reset_forgets_the_waiting_request()
    {
        VirtioGuest guest = Guest(8);
        guest.Start();
        guest.Request(0, (Data, -8));
        guest.Request(0, (Data, -8));
        guest.Status = 0;
        _bench.Clock.Advance(10_000_000);
        Assert.Equal(1, guest.Queues[0].UsedIndex);
    }
}
