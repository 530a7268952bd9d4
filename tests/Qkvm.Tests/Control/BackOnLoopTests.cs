namespace Qkvm.Tests.Control;

/// <summary>Commands that wait for other threads answer on the main loop, which alone may touch connections.</summary>
public sealed class BackOnLoopTests : IDisposable
{
    const int Times = 20_000;                                      // the loop is as fast as the thread that asks it

    readonly ControlBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public async Task What_ends_elsewhere_goes_on_on_the_loop() =>
        Assert.Equal(0, await _bench.OnLoop(CountElsewhere));

    async Task<int> CountElsewhere()
    {
        int wrong = 0;
        for (int i = 0; i < Times; i++)
        {
            await _bench.Context.BackOnLoop(new ValueTask<int>(Task.Run(static () => 1)));
            if (!_bench.Environment.Lock.IsHeld) wrong++;
        }
        return wrong;
    }
}
