using System.Buffers.Binary;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Virtio;

/// <summary>Task management. Section 5.6.6.2.</summary>
public sealed partial class VirtioScsi
{
    // struct virtio_scsi_ctrl_tmf: le32 type, le32 subtype, u8 lun[8], le64 id; u8 response
    const int TmfLun = 8, TmfId = 16, TmfLength = 24;
    // struct virtio_scsi_ctrl_an: le32 type, u8 lun[8], le32 event_requested; le32 event_actual, u8 response
    const int AsyncLength = 16, AsyncResponseLength = 5;
    const uint TmfType = 0, AsyncQuery = 1, AsyncSubscribe = 2;
    const uint AbortTask = 0, AbortTaskSet = 1, ClearTaskSet = 3, NexusReset = 4, UnitReset = 5, QueryTask = 6,
        QueryTaskSet = 7;
    const byte FunctionComplete = 0, BadTarget = 3, FunctionSucceeded = 10, FunctionRejected = 11, IncorrectLun = 12;

    /// <summary>Those that wait for requests to end.</summary>
    readonly List<VirtioScsiTask> _tasks = [];                     // not migrated: nothing is in flight while saving

    void AbandonTasks()
    {
        foreach (VirtioScsiTask task in _tasks) task.IsAbandoned = true;
        _tasks.Clear();
    }

    void ObeyTasks(Virtqueue queue)
    {
        int budget = Virtqueue.Burst;
        do
            for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
                if (!Obey(queue, chain)) return;
        while (queue.EnableKicks() && budget > 0);
        if (budget == 0) Post(() => { if (_started != null && !Control.IsBroken) Kick(queue); });
        queue.Signal();
    }

    /// <summary>False: the device has failed.</summary>
    bool Obey(Virtqueue queue, DescriptorChain chain)
    {
        Span<byte> request = stackalloc byte[TmfLength];
        request.Clear();
        int length = (int)Math.Min(chain.ReadableLength, TmfLength);
        chain.Readable.Slice(0, length).CopyTo(request);
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(request);
        bool isTask = type == TmfType, isAsync = type is AsyncQuery or AsyncSubscribe;
        if (length < 4 || isTask && (length < TmfLength || chain.WritableLength < 1)
            || isAsync && (length < AsyncLength || chain.WritableLength < AsyncResponseLength))
        {
            queue.Unpop(chain);
            Control.Fail("a control request that is too short");
            return false;
        }
        if (isTask) Manage(queue, chain, request);
        else if (isAsync)                                          // no asynchronous notifications of media
        {
            chain.Writable.Slice(0, AsyncResponseLength).Clear();
            queue.Push(chain, AsyncResponseLength);
        }
        else queue.Push(chain, 0);
        return true;
    }

    void Manage(Virtqueue queue, DescriptorChain chain, ReadOnlySpan<byte> request)
    {
        uint what = BinaryPrimitives.ReadUInt32LittleEndian(request[4..]);
        ulong id = BinaryPrimitives.ReadUInt64LittleEndian(request[TmfId..]);
        ScsiDevice? device = VirtioScsiLun.TryRead(request[TmfLun..], out int target, out int lun)
            ? Bus.Find(target, lun) : null;
        bool isThere = device?.Unit.Lun == lun;
        switch (what)
        {
            case not (AbortTask or AbortTaskSet or ClearTaskSet or NexusReset or UnitReset or QueryTask
                or QueryTaskSet):
                Answer(queue, chain, FunctionRejected);
                return;
            case NexusReset when device != null: break;
            case not NexusReset when isThere: break;
            default:
                Answer(queue, chain, device == null ? BadTarget : IncorrectLun);
                return;
        }
        bool isOne = what is AbortTask or QueryTask, isQuery = what is QueryTask or QueryTaskSet;
        var task = new VirtioScsiTask(this, queue, chain, target, what == NexusReset ? null : lun, isOne ? id : null)
            { IsReset = what is UnitReset or NexusReset };
        if (isQuery)
        {
            bool any = Array.Exists(_queues, q => q.Has(task));
            Answer(queue, chain, any ? FunctionSucceeded : FunctionComplete);
            return;
        }
        if (task.IsReset)
            foreach (ScsiDevice each in Bus.Devices)
                if (each.Target == target && (task.Lun == null || each == device)) each.Reset();
        _tasks.Add(task);
        foreach (VirtioScsiQueue each in _queues) each.Abort(task);
        task.LetGo();
    }

    internal void Ended(VirtioScsiTask task)
    {
        if (task.IsAbandoned) return;
        _tasks.Remove(task);
        Answer(task.Queue, task.Chain, FunctionComplete);
        task.Queue.Signal();
    }

    static void Answer(Virtqueue queue, DescriptorChain chain, byte response)
    {
        chain.Writable.Slice(0, 1).CopyFrom([response]);
        queue.Push(chain, 1);
    }
}

/// <summary>One request of task management: which requests it means, and how many of them are still in
/// flight.</summary>
/// <param name="lun">Null: of all units of the target.</param>
/// <param name="id">Null: of any tag.</param>
sealed class VirtioScsiTask(VirtioScsi device, Virtqueue queue, DescriptorChain chain, int target, int? lun, ulong? id)
{
    int _waits = 1;                                                // the one that looks for them

    public Virtqueue Queue => queue;
    public DescriptorChain Chain => chain;
    public int? Lun => lun;
    public bool IsReset { get; init; }

    /// <summary>The driver has reset the device meanwhile. Under the machine lock.</summary>
    public bool IsAbandoned { get; set; }

    public bool Means(VirtioScsiRequest request) => request.Target == target && (lun ?? request.Lun) == request.Lun
        && (id ?? request.Tag) == request.Tag;

    /// <summary>It waits for one more.</summary>
    public void Hold() => Interlocked.Increment(ref _waits);

    /// <summary>From any thread.</summary>
    public void LetGo()
    {
        if (Interlocked.Decrement(ref _waits) == 0) device.Post(() => device.Ended(this));
    }
}
