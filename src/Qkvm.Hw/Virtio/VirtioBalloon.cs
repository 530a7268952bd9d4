using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>Traditional memory balloon. Virtio 1.2, section 5.5: the guest gives pages, and the host forgets
/// them.</summary>
/// <remarks>Page numbers outside RAM are ignored. Deviations: no page poison and no free page hints.</remarks>
public sealed class VirtioBalloon : VirtioDevice, IBalloon, ILiveProperties
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("virtio-balloon-pci", "virtio memory balloon",
        DeviceCategory.Misc, 0x00FF00, [Property.Bool("deflate-on-oom", false),
            Property.Bool("free-page-reporting", false, "the host has what the guest does not use")], null,
        (name, values, site) =>
        {
            var balloon = new VirtioBalloon(name, values.Bool("deflate-on-oom"), values.Bool("free-page-reporting"));
            balloon._polled = new BalloonStatistics(balloon, site.Clock);
            balloon.ActualChanged += () =>
                site.Board.Raise(new BalloonChangeEvent(site.Board.MemorySize - balloon.Given));
            return balloon;
        });

    const ulong StatsVq = 1 << 1, DeflateOnOom = 1 << 2, PageReporting = 1 << 5; // 5.5.3
    const int NumPages = 0, Actual = 4, ConfigLength = 8;          // struct virtio_balloon_config
    const int Inflate = 0, Deflate = 1, Stats = 2, Reporting = 3;  // free_page_vq, before it, is not there
    const int PageShift = 12, PageNumberLength = 4, StatLength = 10;
    const int MostPages = 64 * 1024;                               // of one request; drivers send 256

    /// <summary>VIRTIO_BALLOON_S_…: swap-in, swap-out, major faults, minor faults, free, total, available, caches,
    /// …</summary>
    public const int StatisticsTags = 10;

    readonly bool _deflateOnOom, _reportsPages;
    readonly ulong[] _statistics = new ulong[StatisticsTags];
    BalloonStatistics? _polled;                                    // not migrated: clients'
    Virtqueue? _statsQueue;                                        // not migrated: null while stopped
    bool _statsWanted;
    uint _numPages;
    uint _actual;

    public VirtioBalloon(string name, bool deflateOnOom, bool reportsPages = false) : base(name, 5, ConfigLength)
    {
        (_deflateOnOom, _reportsPages) = (deflateOnOom, reportsPages);
        QueueSizes = reportsPages ? [128, 128, 128, 32] : [128, 128, 128];
        Reset();
    }

    public override IReadOnlyList<int> QueueSizes { get; }
    public override ulong OfferedFeatures => StatsVq | (_deflateOnOom ? DeflateOnOom : 0)
        | (_reportsPages ? PageReporting : 0);

    /// <summary>Pages of 4 KiB that the guest has given away, as it says.</summary>
    public uint ActualPages => _actual;

    public ulong Given => (ulong)_actual << PageShift;
    public void Ask(ulong bytes) => SetTarget((uint)(bytes >> PageShift));

    /// <summary>Raised when the guest reports another <see cref="ActualPages"/>.</summary>
    public event Action? ActualChanged;

    /// <summary>The guest has told them anew.</summary>
    public event Action? StatisticsCame;

    public IEnumerable<QomProperty> LiveProperties => _polled?.Properties ?? [];

    /// <summary>By VIRTIO_BALLOON_S_ tag; all ones for what the guest did not tell.</summary>
    public ReadOnlySpan<ulong> Statistics => _statistics;

    /// <summary>How many pages of 4 KiB the guest is asked to give away.</summary>
    public void SetTarget(uint pages)
    {
        if (_numPages == pages) return;
        _numPages = pages;
        Control.ConfigChanged();
    }

    /// <summary>Asks for fresh statistics: the guest's buffer goes back to it (5.5.6.3).</summary>
    public void RequestStatistics()
    {
        _statsWanted = true;
        if (_statsQueue is not { } queue || !queue.TryPop(out DescriptorChain? chain)) return;
        _statsWanted = false;
        queue.Push(chain, 0);
        queue.EnableKicks();                                       // of the next one
        queue.Signal();
    }

    public override void ReadConfig(int offset, Span<byte> data)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(ConfigSpace.AsSpan(NumPages), _numPages);
        BinaryPrimitives.WriteUInt32LittleEndian(ConfigSpace.AsSpan(Actual), _actual);
        base.ReadConfig(offset, data);
    }

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(ConfigSpace.AsSpan(Actual), _actual);
        data.CopyTo(ConfigSpace.AsSpan(offset));
        uint actual = BinaryPrimitives.ReadUInt32LittleEndian(ConfigSpace.AsSpan(Actual));
        if (actual == _actual) return;
        _actual = actual;
        ActualChanged?.Invoke();
    }

    /// <remarks>Linux fills its statistics queue and kicks before it says DRIVER_OK.</remarks>
    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        _statsQueue = (features & StatsVq) != 0 ? queues[Stats] : null;
        if (_statsQueue is { } queue) ReadStatistics(queue);
    }

    public override void Stop() => _statsQueue = null;

    public override void Kick(Virtqueue queue)
    {
        if (queue.Index == Stats) { ReadStatistics(queue); return; }
        int budget = Virtqueue.Burst;
        do
            for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
            {
                if (queue.Index == Inflate) Release(chain);        // deflated pages come back by being touched
                else if (queue.Index == Reporting) chain.DiscardWritable(Control.Transport.Dma); // so do these
                queue.Push(chain, 0);
            }
        while (queue.EnableKicks() && budget > 0);
        if (budget < Virtqueue.Burst) queue.Signal();
    }

    public override void Reset()
    {
        _actual = 0;
        _statsWanted = false;
        Array.Fill(_statistics, ulong.MaxValue);
    }

    public override void Exchange(StateStream state)
    {
        state.Field("target", ref _numPages);
        state.Field("actual", ref _actual);
        state.Field("statistics-wanted", ref _statsWanted);
        for (int tag = 0; tag < StatisticsTags; tag++) state.Field($"statistic-{tag}", ref _statistics[tag]);
    }

    void Release(DescriptorChain chain)
    {
        Span<byte> number = stackalloc byte[PageNumberLength];
        long pages = Math.Min(chain.ReadableLength / PageNumberLength, MostPages);
        for (long i = 0; i < pages; i++)
        {
            chain.Readable.Slice(i * PageNumberLength, PageNumberLength).CopyTo(number);
            Control.Transport.Dma.TryDiscardPage((ulong)BinaryPrimitives.ReadUInt32LittleEndian(number) << PageShift);
        }
    }

    /// <summary>The driver keeps one buffer in this queue. It is read now, and returned when statistics are wanted
    /// again.</summary>
    void ReadStatistics(Virtqueue queue)
    {
        if (!queue.TryPop(out DescriptorChain? chain)) return;
        Span<byte> stat = stackalloc byte[StatLength];
        long count = Math.Min(chain.ReadableLength / StatLength, StatisticsTags * 2);
        for (long i = 0; i < count; i++)
        {
            chain.Readable.Slice(i * StatLength, StatLength).CopyTo(stat);
            ushort tag = BinaryPrimitives.ReadUInt16LittleEndian(stat);
            if (tag < StatisticsTags) _statistics[tag] = BinaryPrimitives.ReadUInt64LittleEndian(stat[2..]);
        }
        StatisticsCame?.Invoke();
        queue.Unpop(chain);                                        // it stays available until RequestStatistics
        if (_statsWanted) RequestStatistics();
    }
}
