using Qkvm.Hw.Watchdog;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Watchdog;

public class Ib700Tests
{
    const long Second = 1_000_000_000;

    readonly FakeClock _clock = new();
    readonly FakeBoard _board;

    public Ib700Tests()
    {
        _board = new FakeBoard(new DeviceBench(_clock));
        Ib700.Model.Create(FakeBoard.Defaults(Ib700.Model), _board.Site);
    }

    [Theory]
    [InlineData(0, 30), InlineData(1, 28), InlineData(14, 2), InlineData(0xF0, 30)]
    public void The_last_write_says_when_it_runs_out(byte value, int seconds)
    {
        _board.Ports.Write(0x443, 1, 0);
        _clock.Advance(29 * Second);
        _board.Ports.Write(0x443, 1, value);
        _clock.Advance(seconds * Second - 1);
        Assert.Empty(_board.Requests);
        _clock.Advance(1);
        Assert.Equal(["watchdog"], _board.Requests);
        _clock.Advance(60 * Second);
        Assert.Single(_board.Requests);
    }

    [Fact]
    public void Port_441_stops_it()
    {
        _board.Ports.Write(0x443, 1, 15);
        _board.Ports.Write(0x441, 1, 0);
        _clock.Advance(60 * Second);
        Assert.Empty(_board.Requests);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it() =>
        DeviceSuite.Check(bench => new Ib700(bench.Clock, () => { }), device => ((Ib700)device).Write(2, 1, 9));
}
