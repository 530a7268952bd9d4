using System.Collections.Concurrent;
using Qkvm.Core.Machine;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>Virtio 1.2, section 5.19, restated here.</summary>
public sealed class VirtioPmemTests : IDisposable
{
    const ulong Request = 0x20000, Response = 0x21000, At = 0x1_0000_0000, Length = 4 << 20;

    readonly PciBench _bench = new();
    readonly GuestRam _ram = new("file", Length);
    readonly BlockingCollection<Action> _posted = [];              // what the main loop is to do
    readonly SemaphoreSlim _disk = new(0);
    readonly VirtioPmem _memory;
    readonly VirtioGuest _guest;
    volatile bool _fails;
    int _flushes;

    public VirtioPmemTests()
    {
        _memory = new VirtioPmem("pmem", new MemoryBackend(_ram), () =>
        {
            _disk.Wait();
            Interlocked.Increment(ref _flushes);
            return !_fails;
        }) { Address = At, Post = _posted.Add };
        _guest = new VirtioGuest(_bench, _memory, new VirtioPciOptions(0x00FF00, 0, Legacy: false));
    }

    public void Dispose()
    {
        _bench.Dispose();
        _ram.Dispose();
    }

    void Start()
    {
        _guest.Start();
        _posted.Take()();                                          // a state may have brought requests
    }

    void Flush(uint type = 0)
    {
        _bench.Memory.Space.Write(Request, 4, type);
        _guest.Request(0, (Request, 4), (Response, -4));
    }

    /// <summary>The disk has it, and the main loop hears of that.</summary>
    void End()
    {
        _disk.Release();
        _posted.Take()();
    }

    [Fact]
    public void It_tells_where_it_is()
    {
        Start();
        Assert.Equal((ushort)27, _memory.DeviceId);
        Assert.Equal(0UL, _memory.OfferedFeatures);
        Assert.Equal((At, Length), (_guest.Config(0, 8), _guest.Config(8, 8)));
    }

    [Theory]
    [InlineData(0, false, 0)]
    [InlineData(0, true, 1)]
    [InlineData(5, false, 1)]                                      // no request that there is
    public void A_flush_is_answered_when_the_disk_has_it(uint type, bool fails, uint answer)
    {
        Start();
        _fails = fails;
        _bench.Memory.Space.Write(Response, 4, 99);
        Flush(type);
        Assert.Equal(0, _guest.Queues[0].UsedIndex);
        End();
        Assert.Equal(1, _guest.Queues[0].UsedIndex);
        Assert.Equal(answer, (uint)_bench.Memory.Space.Read(Response, 4));
        Assert.Equal(1, _guest.Isr);
    }

    [Fact]
    public void One_flush_answers_all_that_waited_and_no_later_one()
    {
        Start();
        Flush();
        Flush();                                                   // while the first is on its way
        Flush();
        End();
        Assert.Equal(1, _guest.Queues[0].UsedIndex);
        End();
        Assert.Equal(3, _guest.Queues[0].UsedIndex);
        Assert.Equal(2, _flushes);
    }

    [Fact]
    public void A_reset_forgets_requests_and_flushes_are_one_at_a_time_nevertheless()
    {
        Start();
        Flush();
        _guest.Start();
        _posted.Take()();
        Flush();
        Assert.Equal(0, _flushes);
        End();
        Assert.Equal(0, _guest.Queues[0].UsedIndex);               // it was of the queue before
        End();
        Assert.Equal((1, 2), (_guest.Queues[0].UsedIndex, _flushes));
    }

    [Fact]
    public void A_request_without_room_for_its_response_stops_the_device()
    {
        Start();
        _guest.Request(0, (Request, 4), (Response, -3));
        End();
        Assert.Equal(VirtioStatus.NeedsReset, _guest.Status & VirtioStatus.NeedsReset);
    }
}
