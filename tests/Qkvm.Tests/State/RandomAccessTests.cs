using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>Nothing that a guest does to ports and registers throws: that would end the machine.</summary>
public class RandomAccessTests
{
    [Fact]
    public void A_whole_board_survives_200000_random_accesses()
    {
        var clock = new FakeClock();
        using var bench = new StateBench(clock, model: null, ownIrqChips: true, everything: true);
        for (int round = 0; round < 40; round++)
        {
            new RandomGuest(bench.Board, round).Run(5000);
            clock.Advance(10_000_000);
            bench.Settle();
            if (round % 10 == 9) bench.Board.Reset();
        }
    }
}
