using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>Entropy device. Virtio 1.2, section 5.4.</summary>
/// <remarks>max-bytes in period (milliseconds) limits what a guest takes; requests wait for the next period then.
/// Without rng= the source is the host kernel's generator.</remarks>
public sealed class VirtioRng : VirtioDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("virtio-rng-pci", "virtio random number " +
        "generator",
        DeviceCategory.Misc, 0x00FF00,
        [
            Property.Object("rng", "the source: -object rng-random,id=…"),
            Property.Number("max-bytes", long.MaxValue, 1, long.MaxValue, "most bytes in a period"),
            Property.Number("period", 65536, 1, uint.MaxValue, "milliseconds"),
        ],
        _ => 2,
        (name, values, site) =>
        {
            IEntropySource? source = values.Text("rng") is { } id ? site.Object<IEntropySource>(id,
                "source of entropy") : null;
            return new VirtioRng(name, site.Clock, (long)values.Number("max-bytes"), (long)values.Number("period"),
                source == null ? HostEntropy.Fill : source.Fill);
        });

    // Overlapping descriptors make one chain of 4 GiB from few pages: a request gets this much at most.
    const int MostPerRequest = 64 * 1024;
    const long NanosecondsPerMillisecond = 1_000_000;

    static readonly int[] Sizes = [8];

    readonly IVirtualClock _clock;
    readonly IVmTimer _nextPeriod;
    readonly long _limit, _period;
    readonly FillRandom _fill;
    readonly byte[] _bytes = new byte[MostPerRequest];             // not migrated: used inside Kick alone
    Virtqueue? _queue;                                             // not migrated: null while stopped
    long _left;
    long _periodEnd;

    public delegate void FillRandom(Span<byte> data);

    public VirtioRng(string name, IVirtualClock clock, long bytesPerPeriod, long milliseconds, FillRandom fill)
        : base(name, 4, 0)
    {
        _clock = clock;
        _limit = bytesPerPeriod;
        _period = milliseconds * NanosecondsPerMillisecond;
        _fill = fill;
        _nextPeriod = clock.CreateTimer(() => { if (_queue is { } queue) Kick(queue); });
        Reset();
    }

    public override IReadOnlyList<int> QueueSizes => Sizes;
    public override ulong OfferedFeatures => 0;

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) => _queue = queues[0];

    public override void Stop()
    {
        _queue = null;
        _nextPeriod.Cancel();
    }

    public override void Kick(Virtqueue queue)
    {
        if (_clock.Nanoseconds >= _periodEnd) (_left, _periodEnd) = (_limit, _clock.Nanoseconds + _period);
        bool any = false;
        for (int budget = queue.Setup.Size; budget > 0 && _left > 0
            && queue.TryPop(out DescriptorChain? chain); budget--)
        {
            int count = (int)Math.Min(Math.Min(chain.WritableLength, MostPerRequest), _left);
            Span<byte> bytes = _bytes.AsSpan(0, count);
            _fill(bytes);
            chain.Writable.Slice(0, count).CopyFrom(bytes);
            queue.Push(chain, (uint)count);
            _left -= count;
            any = true;
        }
        if (any) queue.Signal();
        if (queue.EnableKicks()) _nextPeriod.ArmAt(_left > 0 ? _clock.Nanoseconds : _periodEnd);
    }

    public override void Reset() => (_left, _periodEnd) = (_limit, 0);

    public override void Exchange(StateStream state)
    {
        state.Field("left", ref _left);
        state.Field("period-end", ref _periodEnd);
        if (_left < 0 || _left > _limit) throw new InvalidStateException($"{Name}: {_left} bytes left of {_limit}");
        if (state.IsLoading && _queue is { Available: > 0 }) _nextPeriod.ArmAt(_periodEnd);
    }
}
