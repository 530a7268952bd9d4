using Qkvm.Core.Virtio;

namespace Qkvm.Core.Tests.Virtio;

public class ServingPlaceTests
{
    const long Microsecond = 1000;

    ServingPlace _place;
    long _now = 1_000_000_000;

    bool RingAfter(long nanoseconds, bool oneByOne = false) => _place.IsHere(_now += nanoseconds, oneByOne);

    [Fact]
    public void Requests_now_and_then_are_served_where_they_ring()
    {
        for (int i = 0; i < 100; i++) Assert.True(RingAfter(100 * Microsecond));
    }

    [Fact]
    public void Thick_requests_wake_the_loop_unless_they_come_one_by_one()
    {
        for (int i = 0; i < 100; i++) RingAfter(10 * Microsecond);
        Assert.False(RingAfter(10 * Microsecond));
        Assert.True(RingAfter(10 * Microsecond, oneByOne: true));
        Assert.False(RingAfter(10 * Microsecond));
    }
}
