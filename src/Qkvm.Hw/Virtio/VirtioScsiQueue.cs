using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A request queue of a virtio SCSI host.</summary>
sealed class VirtioScsiQueue(VirtioScsi host, IoLoop loop, int index) : LoopQueue(loop, host, index)
{
    readonly Stack<VirtioScsiRequest> _free = new();               // within the gate, as the next
    readonly List<VirtioScsiRequest> _active = [];

    public VirtioScsi Host => host;

    protected override bool Process(Virtqueue queue, int most)
    {
        int left = most;
        for (; left > 0 && queue.TryPop(out DescriptorChain? chain); left--)
        {
            if (chain.ReadableLength < host.HeaderLength || chain.WritableLength < host.ResponseLength)
            {
                queue.Unpop(chain);
                host.Control.FailOnLoop("a SCSI request without its header or response");
                return true;
            }
            Began();
            VirtioScsiRequest request = _free.Count > 0 ? _free.Pop() : new VirtioScsiRequest(this);
            request.Place = _active.Count;
            _active.Add(request);
            request.Begin(queue, chain);
        }
        return left < most;
    }

    internal void SettleEnded() => Settle();

    /// <summary>Whoever looked for a unit before has submitted its request when this returns.</summary>
    internal void AwaitProcess()
    {
        lock (Gate) { }
    }

    internal bool Has(VirtioScsiTask task)
    {
        lock (Gate) return _active.Exists(task.Means);
    }

    /// <summary>Whatever a task means ends for it.</summary>
    internal void Abort(VirtioScsiTask task)
    {
        lock (Gate)
            foreach (VirtioScsiRequest request in _active)
                if (request.Task == null && task.Means(request))
                {
                    task.Hold();
                    request.Task = task;
                }
    }

    internal void Finished(VirtioScsiRequest request, Virtqueue queue, DescriptorChain chain, uint written)
    {
        VirtioScsiTask? task;
        lock (Gate)
        {
            task = request.Task;
            VirtioScsiRequest last = _active[^1];
            (_active[request.Place], last.Place) = (last, request.Place);
            _active.RemoveAt(_active.Count - 1);
            _free.Push(request);
            Ended(queue, chain, written);
        }
        task?.LetGo();
    }

    /// <summary>What aborts it, if anything does by now.</summary>
    internal VirtioScsiTask? TaskOf(VirtioScsiRequest request)
    {
        lock (Gate) return request.Task;
    }
}
