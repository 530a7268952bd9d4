using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>Nothing that a guest does to ports and registers throws: that would end the machine.</summary>
public class RandomAccessTests
{
    [Theory]
    [InlineData(false)] [InlineData(true)]
    public void A_whole_board_survives_200000_random_accesses(bool q35)
    {
        var clock = new FakeClock();
        using var bench = new StateBench(clock, model: null, ownIrqChips: true, everything: true, q35);
        for (int round = 0; round < 40; round++)
        {
            new RandomGuest(bench.Board, round).Run(5000);
            clock.Advance(10_000_000);
            bench.Settle();
            if (round % 10 == 9) bench.Board.Reset();
        }
    }
}
