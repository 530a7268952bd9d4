using Qkvm.Core.Memory;
using Qkvm.Hw.Isa;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Isa;

public class IsaAlarmTests
{
    const long Millisecond = 1_000_000;

    [Fact]
    public void The_line_rises_when_the_time_has_come_and_falls_when_read()
    {
        var clock = new FakeClock();
        var board = new FakeBoard(new DeviceBench(clock));
        IsaAlarm.Model.Create(FakeBoard.Defaults(IsaAlarm.Model), board);
        board.Ports.Write(0x2C0, 1, 20);
        clock.Advance(20 * Millisecond - 1);
        Assert.False(board.Irqs[5].Level);
        clock.Advance(1);
        Assert.True(board.Irqs[5].Level);
        Assert.Equal(1UL, board.Ports.Read(0x2C0, 1));
        Assert.False(board.Irqs[5].Level);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it() =>
        DeviceSuite.Check(bench => new IsaAlarm(bench.Clock, bench.Wire("irq")),
            device => ((IsaAlarm)device).Write(0, 1, 20));
}
