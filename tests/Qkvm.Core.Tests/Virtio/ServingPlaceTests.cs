using Qkvm.Core.Virtio;

namespace Qkvm.Core.Tests.Virtio;

public class ServingPlaceTests
{
    const long Microsecond = 1000, Millisecond = 1_000_000;

    ServingPlace _place;
    long _now = 1_000_000_000;

    bool RingAfter(long nanoseconds) => _place.IsHere(_now += nanoseconds);

    void LoopLooksAfter(long nanoseconds) => _place.Looked(_now += nanoseconds, worked: false);

    [Fact]
    public void Requests_now_and_then_are_served_where_they_ring()
    {
        for (int i = 0; i < 100; i++) Assert.True(RingAfter(100 * Microsecond));
    }

    [Fact]
    public void Thick_requests_wake_the_loop()
    {
        RingThickly();
        Assert.False(RingAfter(10 * Microsecond));
        LoopLooksAfter(20 * Microsecond);
        Assert.False(_place.LoopRests(_now));
        Assert.False(RingAfter(10 * Microsecond));
    }

    [Fact]
    public void A_loop_that_came_late_rests_and_is_tried_again_each_time_after_twice_as_long()
    {
        RingThickly();
        for (long rest = 10 * Millisecond; rest <= 80 * Millisecond; rest *= 2)
        {
            Assert.False(RingAfter(10 * Microsecond));
            LoopLooksAfter(Millisecond);
            long since = _now;
            while (RingAfter(10 * Microsecond)) { }
            Assert.InRange(_now - since, rest, rest + 10 * Microsecond);
        }
    }

    [Fact]
    public void A_loop_that_was_held_up_between_two_looks_rests()
    {
        LoopLooksAfter(Microsecond);
        LoopLooksAfter(Microsecond);
        Assert.False(_place.LoopRests(_now));
        LoopLooksAfter(Millisecond);
        Assert.True(_place.LoopRests(_now));
    }

    [Fact]
    public void Neither_work_nor_sleep_between_two_looks_counts_as_held_up()
    {
        LoopLooksAfter(Microsecond);
        _place.Sleeps();
        LoopLooksAfter(Millisecond);
        Assert.False(_place.LoopRests(_now));
        _place.Looked(_now, worked: true);
        LoopLooksAfter(Millisecond);
        Assert.False(_place.LoopRests(_now));
    }

    void RingThickly()
    {
        for (int i = 0; i < 100; i++)
            if (!RingAfter(10 * Microsecond)) LoopLooksAfter(10 * Microsecond);
    }
}
