namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Who answers a message while the device's loop sleeps.</summary>
public sealed class Virtio9pServingTests
{
    /// <summary>With a session, and the loop asleep.</summary>
    sealed class Bench : Virtio9pBench
    {
        public Bench(bool isNear) : base(sleeps: true, isNear)
        {
            _sleeper!.WakeUp();
            Begin();
            _sleeper.WakeUp();
        }

        public new (byte Type, int Tag) Await() => base.Await();
        public void Wake() => _sleeper!.WakeUp();

        /// <summary>What is there when the doorbell's write returns.</summary>
        /// <param name="takes">Milliseconds of the file system.</param>
        public (byte Type, int Tag)? Ask(int takes = 0)
        {
            _folder.OnStat = () => Thread.Sleep(takes);
            Send(24, Number(0), Number(0), Number(0));
            return Answer();
        }
    }

    [Fact]
    public void A_folder_of_this_machine_answers_whoever_rings()
    {
        using var bench = new Bench(isNear: true);
        for (int tag = 3; tag < 20; tag++) Assert.Equal(((byte)25, tag), bench.Ask()!.Value);
    }

    [Fact]
    public void A_folder_of_another_machine_answers_on_the_loop()
    {
        using var bench = new Bench(isNear: false);
        Assert.Null(bench.Ask());
        bench.Wake();
        Assert.Equal((25, 3), bench.Await());
    }

    [Fact]
    public void One_that_was_slow_answers_on_the_loop()
    {
        using var bench = new Bench(isNear: true);
        Assert.Equal((25, 3), bench.Ask(takes: 20)!.Value);
        Assert.Null(bench.Ask());
        bench.Wake();
        Assert.Equal((25, 4), bench.Await());
    }
}
