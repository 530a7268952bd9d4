using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.Null;
using Qkvm.Storage.Drivers.Throttle;
using Qkvm.Storage.Graph;
using Qkvm.Testing;

namespace Qkvm.Storage.Tests;

/// <summary>The filter that keeps to the limits of a group, by a clock that the test moves.</summary>
[Collection(nameof(Alone))]
public class ThrottleDriverTests
{
    const long Second = 1_000_000_000;

    // no assertion: the end of a test that would never end
    static readonly TimeSpan Hang = TimeSpan.FromSeconds(60);

    readonly FakeClock _clock = new();
    readonly Pump _pump = new();
    readonly ThrottleGroups _groups;
    readonly BlockFactory _factory;

    public ThrottleDriverTests()
    {
        _groups = new ThrottleGroups(_clock, _pump.Post);
        _factory = new BlockFactory(new Catalogue<BlockDriverModel>("block driver",
            [NullDriver.Model, ThrottleDriver.Model]), _ => { }) { JoinThrottle = _groups.TryJoin };
    }

    ThrottleGroup Group(ThrottleLimits limits, string name = "g")
    {
        ThrottleGroup group = _groups.Keep(name);
        group.Limits = limits;
        return group;
    }

    ThrottleGroup Requests(RateLimit limit) => Group(ThrottleLimits.None with { RequestsTotal = limit });

    BlockDriver Filter(string name = "t", string group = "g")
    {
        string options = $"throttle,node-name={name},throttle-group={group},file.driver=null-co,file.read-zeroes=on";
        BlockDriver made = _factory.AddNode(Options.Parse(options, $"-blockdev {options}", "driver"));
        Scratch.Use(made);
        return made;
    }

    static Task[] Start(int count, Func<ValueTask> request) =>
        [.. Enumerable.Range(0, count).Select(_ => request().AsTask())];

    static Task[] Reads(BlockDriver disk, int count, int bytes = 512) =>
        Start(count, () => disk.ReadAsync(0, new ScatterList(new byte[bytes])));

    /// <summary>So many have been let through: what a wait holds back goes on on other threads, and ends.</summary>
    async Task Expect(int passed, params Task[] requests)
    {
        _pump.RunPosted();
        while (requests.Where(request => !request.IsCompleted).ToArray() is var open
            && requests.Length - open.Length < passed) await Task.WhenAny(open).WaitAsync(Hang);
        await Task.WhenAll(requests.Where(request => request.IsCompleted));
        Assert.Equal(passed, requests.Count(request => request.IsCompleted));
    }

    async Task Advance(long nanoseconds, int passed, params Task[] requests)
    {
        _clock.Advance(nanoseconds);
        await Expect(passed, requests);
    }

    [Fact]
    public async Task So_many_requests_pass_in_a_second()
    {
        Requests(new(10));
        Task[] reads = Reads(Filter(), 30);
        await Expect(2, reads);                                    // a tenth of a second's, and what crosses the brim
        await Advance(Second + Second / 1000, 12, reads);
        await Advance(Second / 2, 17, reads);
    }

    [Fact]
    public async Task So_many_bytes_are_written_in_a_second_whatever_is_read()
    {
        Group(ThrottleLimits.None with { BytesWrite = new(10_240) });
        BlockDriver disk = Filter();
        Task[] writes = Start(10, () => disk.WriteAsync(0, new ScatterList(new byte[1024])));
        await Expect(2, writes);
        await Expect(20, Reads(disk, 20, 4096));
        await Advance(Second / 2, 7, writes);
    }

    [Fact]
    public async Task Zeroes_and_discards_count_as_writes_and_flushes_do_not()
    {
        Group(ThrottleLimits.None with { RequestsWrite = new(1) });
        BlockDriver disk = Filter();
        await disk.WriteZeroesAsync(0, 4096, mayUnmap: false);
        Task[] waiting = [disk.WriteZeroesAsync(0, 4096, false).AsTask(), .. Start(1, () => disk.FlushAsync())];
        await Expect(1, waiting);
        await Advance(Second, 2, waiting);
    }

    [Fact]
    public async Task A_burst_passes_at_once()
    {
        Requests(new(10, 100));
        Task[] reads = Reads(Filter(), 200);
        await Expect(101, reads);
        await Advance(Second, 111, reads);
    }

    [Fact]
    public async Task Nodes_and_drives_of_a_group_share_its_limits()
    {
        ThrottleGroup group = Requests(new(10));
        Task[] greedy = Reads(Filter("a"), 50), modest = Reads(Filter("b"), 3);
        var drive = new BlockBackend("d", _pump.Post) { Throttle = _groups.Join("g") };
        Assert.Equal(3, group.MemberCount);
        await Expect(2, [.. greedy, .. modest]);
        await Advance(Second, 12, [.. greedy, .. modest]);
        Assert.All(modest, request => Assert.True(request.IsCompleted));
        await drive.DisposeAsync();
        Assert.Equal(2, group.MemberCount);
    }

    [Fact]
    public async Task Who_waits_for_the_last_request_does_not_wait_for_limits()
    {
        Requests(new(1));
        BlockDriver disk = Filter();
        Task[] first = Reads(disk, 20);
        await Expect(1, first);
        Action holdAgain = disk.LetGo()!;
        await Expect(20, first);
        await Expect(20, Reads(disk, 20));
        holdAgain();
        await Expect(0, Reads(disk, 5));
    }

    [Fact]
    public async Task A_drive_over_it_drains()
    {
        Requests(new(1));
        BlockDriver disk = Filter();
        var drive = new BlockBackend("d", _pump.Post);
        disk.Edges[0].Detach();
        drive.Insert(disk);
        int done = 0;
        for (int i = 0; i < 20; i++)
            drive.Submit(new Request(() => done++) { Buffers = new ScatterList(new byte[512]) });
        bool isIdle = false;
        drive.WhenIdle(() => isIdle = true);
        _pump.Until(() => isIdle);
        Assert.Equal(20, done);

        for (int i = 0; i < 20; i++)
            drive.Submit(new Request(() => done++) { Buffers = new ScatterList(new byte[512]) });
        ValueTask<Action> pause = ((IBlockUser)drive).PauseAsync();
        _pump.Until(() => done == 40);
        (await pause)();
        Assert.False(Reads(disk, 5)[^1].IsCompleted);              // limits hold again
        Assert.True(drive.Drain());
    }

    [Fact]
    public async Task A_node_that_goes_lets_go_and_leaves()
    {
        ThrottleGroup group = Requests(new(1));
        BlockDriver disk = Filter();
        Task[] reads = Reads(disk, 5);
        await Expect(1, reads);
        disk.Edges[0].Detach();
        await _factory.RemoveNodeAsync("t");
        await Expect(5, reads);
        Assert.Equal(0, group.MemberCount);
    }

    [Fact]
    public void A_group_that_nobody_keeps_goes_with_its_last_member()
    {
        ThrottleMember first = _groups.Join("g"), second = _groups.Join("g");
        Assert.Same(first.Group, second.Group);
        Assert.Throws<ConfigurationException>(() => _groups.Keep("g"));
        first.Leave();
        second.Leave();
        Assert.Null(_groups.TryJoin("g"));
        ThrottleGroup kept = _groups.Keep("g");
        _groups.Drop(kept);
        Assert.Null(_groups.TryJoin("g"));
    }

    [Theory]
    [InlineData("throttle,node-name=t,file.driver=null-co", "Parameter 'throttle-group' is missing")]
    [InlineData("throttle,node-name=t,file.driver=null-co,throttle-group=x", "Throttle group 'x' does not exist")]
    public void What_is_wrong_is_told_in_QEMUs_words(string options, string message) =>
        Assert.Equal($"-blockdev {options}: {message}", Assert.Throws<ConfigurationException>(() =>
            _factory.AddNode(Options.Parse(options, $"-blockdev {options}", "driver"))).Message);

    [Fact]
    public void What_need_not_wait_allocates_nothing()
    {
        Requests(new(1_000_000, 1_000_000));
        BlockDriver disk = Filter();
        var buffers = new ScatterList(new byte[512]);
        void Round()
        {
            for (int i = 0; i < 1000; i++)
            {
                disk.ReadAsync(0, buffers).GetAwaiter().GetResult();
                disk.WriteAsync(0, buffers).GetAwaiter().GetResult();
            }
        }
        Round();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Round();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    sealed class Request(Action done) : BlockRequest
    {
        public override void Complete(int errno) => done();
    }
}
