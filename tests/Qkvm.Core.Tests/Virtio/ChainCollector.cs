using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Core.Tests.Virtio;

/// <summary>Returns each chain at once, or keeps them all.</summary>
sealed class ChainCollector() : VirtioDevice("collector", 42, 0)
{
    public const int QueueSize = 16;

    public bool Hoards { get; set; }
    public int Stops { get; private set; }
    public int Kicks { get; private set; }
    public override IReadOnlyList<int> QueueSizes { get; } = [QueueSize];
    public override ulong OfferedFeatures => 1;
    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) { }
    public override void Stop() => Stops++;
    public override void Reset() { }
    public override void Exchange(StateStream state) { }

    public override void Kick(Virtqueue queue)
    {
        Kicks++;
        while (queue.TryPop(out DescriptorChain? chain))
        {
            if (Hoards) continue;
            queue.Push(chain, 0);
            queue.Signal();
        }
    }
}
