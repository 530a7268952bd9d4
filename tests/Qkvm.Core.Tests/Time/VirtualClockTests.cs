using Qkvm.Core.Time;

namespace Qkvm.Core.Tests.Time;

public class VirtualClockTests
{
    readonly List<int> _fired = [];
    int _wakes;

    VirtualClock Running()
    {
        var clock = new VirtualClock(() => _wakes++);
        clock.Start();
        return clock;
    }

    [Fact]
    public void Timers_fire_once_in_the_order_of_their_times()
    {
        VirtualClock clock = Running();
        IVmTimer[] timers = [.. Enumerable.Range(0, 4).Select(i => clock.CreateTimer(() => _fired.Add(i)))];
        timers[0].ArmAt(-1);
        timers[1].ArmAt(-3);
        timers[2].ArmAt(-2);
        timers[3].ArmAt(-4);
        timers[2].Cancel();
        timers[3].ArmAt(long.MaxValue / 2);
        Assert.InRange(clock.RunExpired(), 1, long.MaxValue / 2);
        Assert.Equal([1, 0], _fired);
        Assert.True(timers[3].IsArmed);
        Assert.False(timers[0].IsArmed);
    }

    [Fact]
    public void A_timer_that_arms_itself_into_the_past_does_not_hold_the_main_loop()
    {
        VirtualClock clock = Running();
        IVmTimer? storm = null;
        storm = clock.CreateTimer(() => { _fired.Add(0); storm!.ArmAt(0); });
        storm.ArmAt(0);
        Assert.Equal(0, clock.RunExpired());
        Assert.InRange(_fired.Count, 1, 1000);
    }

    [Fact]
    public void Only_an_earlier_deadline_wakes_the_main_loop()
    {
        VirtualClock clock = Running();
        IVmTimer first = clock.CreateTimer(() => { }), second = clock.CreateTimer(() => { });
        first.ArmAt(long.MaxValue / 4);
        clock.RunExpired();
        int before = _wakes;
        second.ArmAt(long.MaxValue / 2);
        Assert.Equal(before, _wakes);
        second.ArmAt(long.MaxValue / 8);
        Assert.Equal(before + 1, _wakes);
    }

    [Fact]
    public void Nothing_fires_while_the_clock_stands_still()
    {
        VirtualClock clock = Running();
        clock.CreateTimer(() => _fired.Add(0)).ArmAt(0);
        clock.Stop();
        Assert.Equal(-1, clock.RunExpired());
        Assert.Empty(_fired);
        clock.Start();
        clock.RunExpired();
        Assert.Equal([0], _fired);
    }

    [Fact]
    public void Arming_again_and_again_takes_no_memory()
    {
        VirtualClock clock = Running();
        IVmTimer timer = clock.CreateTimer(() => { });
        timer.ArmAt(long.MaxValue / 2);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100_000; i++) timer.ArmAt(long.MaxValue / 2 + i);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4096);
    }

    [Fact]
    public void A_tick_beyond_the_end_of_time_never_comes()
    {
        VirtualClock clock = Running();
        IVmTimer timer = clock.CreateTimer(() => { });
        new TickClock(clock, 1000).Arm(timer, long.MaxValue - 1);
        Assert.False(timer.IsArmed);
    }
}
