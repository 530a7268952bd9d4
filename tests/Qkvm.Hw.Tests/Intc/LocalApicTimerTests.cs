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
}
