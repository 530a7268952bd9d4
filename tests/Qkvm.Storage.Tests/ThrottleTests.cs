using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Testing;

namespace Qkvm.Storage.Tests;

/// <summary>Limits of disks, as QEMU's docs/throttle.txt describes them: a tenth of a second's worth passes at once,
/// and the request that crosses it.</summary>
public class ThrottleTests
{
    const long Second = 1_000_000_000;

    readonly FakeClock _clock = new();
    readonly Pump _pump = new();
    int _done;

    [Fact]
    public void So_many_requests_pass_in_a_second()
    {
        BlockBackend disk = Disk(Group(new RateLimit(10)));
        Submit(disk, BlockOperation.Read, 30);
        Expect(2);
        _clock.Advance(Second + Second / 1000);                    // what is due at the second's end is in
        Expect(12);
        _clock.Advance(Second / 2);
        Expect(17);
    }

    [Fact]
    public void So_many_bytes_pass_in_a_second()
    {
        BlockBackend disk = Disk(ThrottleLimits.None with { BytesRead = new(10_000) });
        Submit(disk, BlockOperation.Read, 30, bytes: 1000);
        Expect(2);
        _clock.Advance(Second);
        Expect(12);
    }

    [Fact]
    public void What_is_large_counts_as_several()
    {
        BlockBackend disk = Disk(Group(new RateLimit(10)) with { RequestSize = 512 });
        Submit(disk, BlockOperation.Read, 30, bytes: 1024);
        Expect(1);
        _clock.Advance(Second);
        Expect(6);
    }

    [Fact]
    public void A_burst_of_a_second_passes_at_once()
    {
        BlockBackend disk = Disk(Group(new RateLimit(10, 100)));
        Submit(disk, BlockOperation.Read, 200);
        Expect(101);
        _clock.Advance(Second);
        Expect(111);
    }

    [Fact]
    public void A_longer_burst_has_its_own_rate()
    {
        BlockBackend disk = Disk(Group(new RateLimit(10, 100, 3)));
        Submit(disk, BlockOperation.Read, 600);
        Expect(11);
        _clock.Advance(Second);
        Expect(111);
        _clock.Advance(9 * Second + Second / 20);
        Expect(401);
    }

    [Fact]
    public void Who_waits_for_reads_may_write_and_flush()
    {
        BlockBackend disk = Disk(ThrottleLimits.None with { RequestsRead = new(1) });
        Submit(disk, BlockOperation.Read, 5);
        Expect(1);
        Submit(disk, BlockOperation.Write, 5);
        Submit(disk, BlockOperation.Flush, 1);
        Expect(7);
    }

    [Fact]
    public void Disks_of_a_group_take_turns()
    {
        ThrottleGroup group = Make(Group(new RateLimit(10)));
        BlockBackend greedy = Disk(group, "a"), modest = Disk(group, "b");
        Submit(greedy, BlockOperation.Read, 50);
        var mine = Submit(modest, BlockOperation.Read, 5);
        Expect(2);
        _clock.Advance(Second);
        Expect(12);
        Assert.Equal(5, mine.Count(request => request.Result == 0));
        Assert.Equal(2, group.MemberCount);
    }

    [Fact]
    public void Who_waits_for_the_last_request_does_not_wait_for_limits()
    {
        BlockBackend disk = Disk(Group(new RateLimit(1)));
        Submit(disk, BlockOperation.Write, 20);
        Expect(1);
        bool isIdle = false;
        disk.WhenIdle(() => isIdle = true);
        _pump.Until(() => isIdle);
        Assert.Equal(20, _done);
    }

    [Fact]
    public void Without_limits_all_goes_on()
    {
        BlockBackend disk = Disk(Group(new RateLimit(1)));
        Submit(disk, BlockOperation.Write, 20);
        Expect(1);
        disk.Throttle = null;
        Expect(20);
        Submit(disk, BlockOperation.Write, 20);
        Expect(40);
    }

    [Fact]
    public async Task A_disk_that_goes_leaves_its_group()
    {
        ThrottleGroup group = Make(Group(new RateLimit(10)));
        BlockBackend disk = Disk(group);
        Assert.Equal(1, group.MemberCount);
        await disk.DisposeAsync();
        Assert.Equal(0, group.MemberCount);
    }

    [Fact]
    public void New_limits_hold_from_now_on()
    {
        ThrottleGroup group = Make(Group(new RateLimit(1)));
        BlockBackend disk = Disk(group);
        Submit(disk, BlockOperation.Write, 40);
        Expect(1);
        group.Limits = Group(new RateLimit(10));
        Expect(3);
        _clock.Advance(Second);
        Expect(13);
    }

    [Theory]
    [InlineData(5, 0, 1, 4, "bps/iops/max total values and read/write values cannot be used at the same time")]
    [InlineData(-1, 0, 1, 0, "bps/iops/max values must be within [0, 1000000000000000]")]
    [InlineData(0, 10, 1, 0, "bps_max/iops_max require corresponding bps/iops values")]
    [InlineData(100, 10, 1, 0, "bps_max/iops_max cannot be lower than bps/iops")]
    [InlineData(100, 0, 10, 0, "burst length set without burst rate")]
    [InlineData(100, 200, 0, 0, "the burst length cannot be 0")]
    [InlineData(1000000000000000, 1000000000000000, 3, 0, "burst length too high for this burst rate")]
    [InlineData(100, 200, 3, 0, null)]
    public void Senseless_limits_are_told_in_QEMUs_words(long average, long burst, long seconds, long read,
        string? fault)
    {
        ThrottleLimits limits = Group(new RateLimit(average, burst, seconds)) with { RequestsRead = new(read) };
        Assert.Equal(fault, limits.Fault);
    }

    static ThrottleLimits Group(RateLimit requests) => ThrottleLimits.None with { RequestsTotal = requests };

    ThrottleGroup Make(ThrottleLimits limits) => new("g", _clock, _pump.Post) { Limits = limits };

    BlockBackend Disk(ThrottleLimits limits) => Disk(Make(limits));

    BlockBackend Disk(ThrottleGroup group, string id = "d")
    {
        var disk = new BlockBackend(id, _pump.Post) { Throttle = group.Join() };
        disk.Insert(new MemoryDisk(1 << 20));
        return disk;
    }

    List<Request> Submit(BlockBackend disk, BlockOperation operation, int count, int bytes = 512)
    {
        var requests = new List<Request>();
        for (int i = 0; i < count; i++)
        {
            var request = new Request(() => _done++)
            {
                Operation = operation,
                Buffers = new ScatterList(new byte[bytes]),
            };
            requests.Add(request);
            disk.Submit(request);
        }
        _pump.RunPosted();                                         // sets the timer
        return requests;
    }

    /// <summary>So many have ended, and no more are on their way.</summary>
    void Expect(int done)
    {
        _pump.Until(() => _done >= done);
        _pump.RunPosted();
        Assert.Equal(done, _done);
    }

    sealed class Request(Action done) : BlockRequest
    {
        public int? Result { get; private set; }

        public override void Complete(int errno)
        {
            Result = errno;
            done();
        }
    }
}
