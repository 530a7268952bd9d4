using Qkvm.Core.Block;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A request queue of a virtio block device.</summary>
sealed class VirtioBlkQueue : LoopQueue
{
    readonly Stack<VirtioBlkRequest> _free = new();                // within the gate
    readonly BlockQueue _requests;

    public VirtioBlkQueue(VirtioBlk disk, IoLoop loop, int index) : base(loop, disk, index)
    {
        Disk = disk;
        _requests = new BlockQueue(disk.Backend, loop, Settle);
    }

    public VirtioBlk Disk { get; }

    protected override bool Process(Virtqueue queue, int most)
    {
        int left = most;
        for (; left > 0 && queue.TryPop(out DescriptorChain? chain); left--)
        {
            if (chain.ReadableLength < VirtioBlkRequest.HeaderLength || chain.WritableLength < 1)
            {
                queue.Unpop(chain);
                Disk.Control.FailOnLoop("a block request without its header or status byte");
                return true;
            }
            Began();
            VirtioBlkRequest request = _free.Count > 0 ? _free.Pop() : new VirtioBlkRequest(this);
            request.Begin(queue, chain);
        }
        return left < most;
    }

    internal void Submit(VirtioBlkRequest request) => _requests.Submit(request);

    internal void Finished(VirtioBlkRequest request, Virtqueue queue, DescriptorChain chain)
    {
        lock (Gate)
        {
            _free.Push(request);
            Ended(queue, chain, chain.WritableLength);
        }
    }
}
