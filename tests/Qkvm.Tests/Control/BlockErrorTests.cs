using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>What follows when the host's disk fails: rerror= and werror=.</summary>
public sealed class BlockErrorTests : IDisposable
{
    const int EIo = 5, ENoSpace = 28;

    // no assertion: the end of a test that would never end
    static readonly TimeSpan Hang = TimeSpan.FromMinutes(1);

    readonly ControlBench _bench = new();
    readonly List<MachineEvent> _told = [];

    public BlockErrorTests() => _bench.OnLoop(() =>
    {
        _bench.Machine.Events.Raised += _told.Add;
        _bench.Machine.Resume();
    });

    public void Dispose() => _bench.Dispose();

    BlockBackend Drive => _bench.Backends.Drives["disk"];
    MemoryDisk Disk => (MemoryDisk)Drive.Root!;

    [Fact]
    public async Task A_full_disk_stops_the_machine_and_the_write_is_made_again_when_there_is_room()
    {
        Disk.FailWith = ENoSpace;
        Request write = Submit(BlockOperation.Write);
        Until(() => _bench.Machine.State == RunState.IoError);
        Assert.False(write.Ended.IsCompleted);
        Assert.Equal("nospace", IoStatus);
        BlockIoErrorEvent told = _bench.OnLoop(() => _told.OfType<BlockIoErrorEvent>().Single());
        Assert.Equal(("disk", "write", ErrorAction.Stop, true, "No space left on device"),
            (told.Device, told.Operation, told.Action, told.Nospace, told.Reason));
        Assert.IsType<StopEvent>(_bench.OnLoop(() => _told[^1]));

        _bench.Query("cont");                                      // nothing has changed: it stops again
        Until(() => _told.OfType<StopEvent>().Count() == 2);
        Assert.False(write.Ended.IsCompleted);

        Disk.FailWith = 0;
        _bench.Query("cont");
        Assert.Equal(0, await write.Ended.WaitAsync(Hang));
        Assert.All(Disk.Bytes[..512], b => Assert.Equal(0x5A, b));
        Assert.Equal("ok", IoStatus);
        Assert.Equal(RunState.Running, _bench.OnLoop(() => _bench.Machine.State));
    }

    [Theory]
    [InlineData(ErrorPolicy.Report, BlockOperation.Read, EIo, EIo)]
    [InlineData(ErrorPolicy.Ignore, BlockOperation.Read, EIo, 0)]
    [InlineData(ErrorPolicy.Stop, BlockOperation.Read, EIo, null)]
    [InlineData(ErrorPolicy.Report, BlockOperation.Write, ENoSpace, ENoSpace)]
    [InlineData(ErrorPolicy.Ignore, BlockOperation.Write, EIo, 0)]
    [InlineData(ErrorPolicy.Stop, BlockOperation.Write, EIo, null)]
    [InlineData(ErrorPolicy.Enospc, BlockOperation.Write, EIo, EIo)]
    [InlineData(ErrorPolicy.Enospc, BlockOperation.Write, ENoSpace, null)]
    [InlineData(ErrorPolicy.Enospc, BlockOperation.Flush, ENoSpace, null)]
    public async Task A_policy_says_what_follows(ErrorPolicy policy, BlockOperation operation, int errno, int? result)
    {
        if (operation == BlockOperation.Read) Drive.Errors.OnRead = policy;
        else Drive.Errors.OnWrite = policy;
        Disk.FailWith = errno;
        Request request = Submit(operation);
        if (result is { } expected)
        {
            Assert.Equal(expected, await request.Ended.WaitAsync(Hang));
            Assert.Equal(RunState.Running, _bench.OnLoop(() => _bench.Machine.State));
            return;
        }
        Until(() => _bench.Machine.State == RunState.IoError);
        Assert.False(request.Ended.IsCompleted);
        Assert.Equal(errno == ENoSpace ? "nospace" : "failed", IoStatus);
    }

    [Fact]
    public async Task A_reset_ends_what_waits()
    {
        Disk.FailWith = ENoSpace;
        Request[] writes = [Submit(BlockOperation.Write), Submit(BlockOperation.Write)];
        Until(() => _bench.Machine.State == RunState.IoError && Drive.InFlight == 0);
        _bench.Query("system_reset");
        foreach (Request write in writes) Assert.Equal(ENoSpace, await write.Ended.WaitAsync(Hang));
        Until(() => _told.OfType<ResetEvent>().Any());
        Assert.Equal("ok", IoStatus);
    }

    [Fact]
    public void A_device_takes_its_policies()
    {
        _bench.Query("blockdev-add", """{"driver":"null-co","node-name":"n","size":1048576}""");
        _bench.Query("device_add", """
            {"driver":"virtio-blk-pci","id":"d","drive":"n","rerror":"stop","werror":"report","share-rw":true}
            """);
        BlockBackend drive = _bench.Backends.Drives["n"];
        Assert.Equal((ErrorPolicy.Stop, ErrorPolicy.Report, true),
            (drive.Errors.OnRead, drive.Errors.OnWrite, drive.SharesWrite));
    }

    string IoStatus => _bench.Query("query-block").EnumerateArray()
        .First(drive => drive.GetProperty("device").GetString() == "disk").GetProperty("io-status").GetString()!;

    void Until(Func<bool> condition) => Assert.True(
        SpinWait.SpinUntil(() => _bench.OnLoop(condition), Hang), "what is waited for does not come");

    Request Submit(BlockOperation operation)
    {
        var data = new byte[512];
        data.AsSpan().Fill(0x5A);
        var request = new Request { Operation = operation, Buffers = new ScatterList(data), Length = data.Length };
        _bench.OnLoop(() => Drive.Submit(request));
        return request;
    }

    sealed class Request : BlockRequest
    {
        readonly TaskCompletionSource<int> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<int> Ended => _ended.Task;
        public override void Complete(int errno) => _ended.SetResult(errno);
    }
}
