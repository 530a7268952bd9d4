using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

public sealed class VirtioBalloonTests : IDisposable
{
    const int Inflate = 0, Deflate = 1, Stats = 2;
    const ulong Numbers = 0x20000, Page = 0x200000;

    readonly PciBench _bench = new();
    readonly VirtioBalloon _balloon = new("balloon", deflateOnOom: false);
    readonly VirtioGuest _guest;

    public VirtioBalloonTests() => _guest = new VirtioGuest(_bench, _balloon, new VirtioPciOptions(0x00FF00, 0));

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void An_inflated_page_is_forgotten_and_its_neighbours_are_not()
    {
        _guest.Start();
        _bench.Memory.Space.Write(Page - 8, 8, 1);
        _bench.Memory.Space.Write(Page, 8, 2);
        _bench.Memory.Space.Write(Page + 4096, 8, 3);
        _bench.Memory.Space.Write(Numbers, 4, Page >> 12);
        _guest.Request(Inflate, (Numbers, 4));
        Assert.Equal((1u, 0u, 3u),
            ((uint)_bench.Memory.Space.Read(Page - 8, 8), (uint)_bench.Memory.Space.Read(Page, 8),
            (uint)_bench.Memory.Space.Read(Page + 4096, 8)));
        _guest.Request(Deflate, (Numbers, 4));
        Assert.Equal(1, _guest.Queues[Deflate].UsedIndex);
    }

    /// <summary>Whole pages alone: what begins or ends within one leaves it as it was.</summary>
    [Fact]
    public void Reported_pages_are_forgotten_and_their_neighbours_are_not()
    {
        const int Reporting = 3;
        using var bench = new PciBench();
        var balloon = new VirtioBalloon("balloon", deflateOnOom: false, reportsPages: true);
        var guest = new VirtioGuest(bench, balloon, new VirtioPciOptions(0x00FF00, 0));
        guest.Start();
        for (ulong page = 0; page < 5; page++) bench.Memory.Space.Write(Page + page * 4096, 8, page + 1);
        guest.Request(Reporting, (Page + 8, -(3 * 4096 - 8)), (Page + 4 * 4096, -100));
        Assert.Equal([1, 0, 0, 4, 5],
            Enumerable.Range(0, 5).Select(page => (int)bench.Memory.Space.Read(Page + (ulong)page * 4096, 4)));
        Assert.Equal(1, guest.Queues[Reporting].UsedIndex);
        Assert.Equal(0, guest.Status & VirtioStatus.NeedsReset);
    }

    [Theory]
    [InlineData(0xFFFFFFFFu)]
    [InlineData((uint)(TestMemory.IoAddress >> 12))]
    [InlineData((uint)(TestMemory.RomAddress >> 12))]
    [InlineData((uint)(TestMemory.HoleAddress >> 12))]
    public void Pages_outside_RAM_are_ignored(uint number)
    {
        _guest.Start();
        _bench.Memory.Space.Write(Numbers, 4, number);
        _guest.Request(Inflate, (Numbers, 7));
        Assert.Equal(1, _guest.Queues[Inflate].UsedIndex);
        Assert.Equal(0, _guest.Status & VirtioStatus.NeedsReset);
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
    }

    [Fact]
    public void The_target_is_told_and_the_answer_heard()
    {
        _guest.Start();
        uint heard = 0;
        _balloon.ActualChanged += () => heard = _balloon.ActualPages;
        _balloon.SetTarget(256);
        Assert.Equal(2, _guest.Isr);
        Assert.Equal(256u, _guest.Config(0, 4));
        _guest.Config(4, 4, 200);
        Assert.Equal(200u, heard);
    }

    [Fact]
    public void Statistics_are_read_and_the_buffer_comes_back_when_more_are_wanted()
    {
        _guest.Start();
        _bench.Memory.Space.Write(Numbers, 2, 4);
        _bench.Memory.Space.Write(Numbers + 2, 8, 123456);
        _bench.Memory.Space.Write(Numbers + 10, 2, 0xFFFF);        // a tag that nobody knows
        _guest.Request(Stats, (Numbers, 20));
        Assert.Equal(123456u, _balloon.Statistics[4]);
        Assert.Equal(0, _guest.Queues[Stats].UsedIndex);
        _balloon.RequestStatistics();
        Assert.Equal(1, _guest.Queues[Stats].UsedIndex);
    }
}
