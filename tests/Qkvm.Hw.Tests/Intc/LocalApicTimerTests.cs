using Qkvm.Core.Time;
using Qkvm.Hw.Intc;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Intc;

public class LocalApicTimerTests
{
    /// <summary>Time passes with every look at it, as on a busy host.</summary>
    sealed class RestlessClock(FakeClock clock) : IVirtualClock
    {
        public long Nanoseconds
        {
            get
            {
                clock.Advance(1000);
                return clock.Nanoseconds;
            }
        }

        public IVmTimer CreateTimer(Action onExpired) => clock.CreateTimer(onExpired);
    }

    [Theory]
    [InlineData(LocalApicTimerMode.OneShot)] [InlineData(LocalApicTimerMode.Periodic)]
    public void A_count_shorter_than_its_programming_ends_too(LocalApicTimerMode mode)
    {
        var clock = new FakeClock();
        int fired = 0;
        var timer = new LocalApicTimer(new RestlessClock(clock), new FakeVCpu(0, clock), () => fired++) { Mode = mode };
        timer.Start(15);
        clock.Advance(1_000_000);
        Assert.True(fired > 0);
        if (mode == LocalApicTimerMode.OneShot) Assert.Equal(1, fired);
    }

    (LocalApicTimer Timer, FakeClock Clock, Func<int> Fired) Timer(LocalApicTimerMode mode)
    {
        var clock = new FakeClock();
        int fired = 0;
        return (new LocalApicTimer(clock, new FakeVCpu(0, clock), () => fired++) { Mode = mode, Divide = 0x0B }, clock,
            () => fired);
    }

    /// <summary>Section 11.5.4: only a write of the initial count starts what has ended.</summary>
    [Fact]
    public void A_count_that_has_ended_stays_at_zero_in_periodic_mode()
    {
        var (timer, clock, fired) = Timer(LocalApicTimerMode.OneShot);
        timer.Start(1000);
        clock.Advance(1500);
        timer.Mode = LocalApicTimerMode.Periodic;
        timer.Divide = 0;
        clock.Advance(10_000);
        Assert.Equal((0u, 1), (timer.CurrentCount, fired()));
        timer.Divide = 0x0B;
        timer.Start(1000);
        clock.Advance(3500);
        Assert.Equal((500u, 4), (timer.CurrentCount, fired()));
    }

    [Fact]
    public void A_periodic_count_goes_on_to_its_end_in_one_shot_mode()
    {
        var (timer, clock, fired) = Timer(LocalApicTimerMode.Periodic);
        timer.Start(100_000);
        clock.Advance(230_000);
        timer.Mode = LocalApicTimerMode.OneShot;
        Assert.Equal((70_000u, 2), (timer.CurrentCount, fired()));
        clock.Advance(1_000_000);
        Assert.Equal((0u, 3), (timer.CurrentCount, fired()));
    }

    /// <summary>Section 11.5.4.1: a deadline in the past interrupts at once and disarms the timer.</summary>
    [Fact]
    public void A_deadline_in_the_past_interrupts_with_the_write()
    {
        var (timer, clock, fired) = Timer(LocalApicTimerMode.TscDeadline);
        clock.Advance(1000);
        timer.Deadline = 2000;
        Assert.Equal((0ul, 1), (timer.Deadline, fired()));
    }
}
