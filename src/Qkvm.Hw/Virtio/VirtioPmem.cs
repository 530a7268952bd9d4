using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>Persistent memory: a file of the host that the guest has in its addresses, and asks to be flushed. Virtio
/// 1.2, section 5.19.</summary>
/// <remarks>Requests stay in the queue until the host's disk has what the guest wrote before them: one flush answers
/// all that wait. So nothing is in flight when the machine is saved. Deviation: memory that is not over a shared file
/// is refused, as a flush would keep nothing.</remarks>
public sealed class VirtioPmem : VirtioDevice, IMemoryDevice
{
    public static readonly DeviceModel Model = VirtioPciModels.Family("virtio-pmem-pci", "a file as persistent "
        + "memory", DeviceCategory.Misc, 0x00FF00,
        [
            Property.Object("memdev", "what has the memory: -object memory-backend-file,share=on,id=…"),
            Property.Number("memaddr", 0, help: "where the guest has it; 0 for where there is room"),
        ], null, FromProperties, isModern: true)[0] with { Aliases = [] }; // alone: no machine takes it on another bus

    const ushort PmemDevice = 27;                                  // section 5
    const int ConfigLength = 16, ConfigStart = 0, ConfigBytes = 8;  // struct virtio_pmem_config, 5.19.4
    const int RequestLength = 4, ResponseLength = 4;               // struct virtio_pmem_req and virtio_pmem_resp
    const uint FlushRequest = 0, Ok = 0, Failed = 1;               // 5.19.6.1

    static readonly int[] Sizes = [128];

    readonly Func<bool> _flush;
    Virtqueue? _queue;                                             // not migrated: null while stopped
    int _start;                                                    // not migrated: counts a driver's starts
    bool _isFlushing;                                              // not migrated: what waits is asked for anew

    /// <param name="flush">Has the host's disk take what was written; on a thread that may wait.</param>
    public VirtioPmem(string name, MemoryBackend memory, Func<bool> flush) : base(name, PmemDevice, ConfigLength) =>
        (Memory, _flush) = (memory, flush);

    public override IReadOnlyList<int> QueueSizes => Sizes;
    public override ulong OfferedFeatures => 0;

    public string Kind => "virtio-pmem";
    public string? Id { get; init; }
    public string Backend { get; init; } = "";
    public MemoryBackend Memory { get; }
    public ulong Address { get; set; }
    public ulong Size => Memory.Size;
    public string WhyKept => IMemoryDevice.OnBus;

    public override void ReadConfig(int offset, Span<byte> data)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(ConfigSpace.AsSpan(ConfigStart), Address);
        BinaryPrimitives.WriteUInt64LittleEndian(ConfigSpace.AsSpan(ConfigBytes), Size);
        base.ReadConfig(offset, data);
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        _queue = queues[0];
        _start++;
        Post(Begin);                                               // requests may have come with a state
    }

    public override void Stop() => _queue = null;

    public override void Kick(Virtqueue queue) => Begin();

    public override void Reset() { }

    public override void Exchange(StateStream state)
    {
        ulong address = Address;
        state.Field("address", ref address);
        if (address != Address)
            throw state.Refuse("address", $"{Name} is at {address:x} there, here at {Address:x}");
    }

    /// <summary>One flush at a time, whatever a driver does meanwhile.</summary>
    void Begin()
    {
        if (_isFlushing || _queue is not { } queue) return;
        int waiting = queue.Available;
        if (waiting == 0 && queue.EnableKicks()) waiting = queue.Available;
        if (waiting == 0) return;
        _isFlushing = true;
        int start = _start;
        ThreadPool.UnsafeQueueUserWorkItem(_ =>
        {
            bool done = _flush();
            Post(() => End(start, waiting, done));
        }, null);
    }

    /// <param name="count">Requests that waited when it began.</param>
    void End(int start, int count, bool done)
    {
        _isFlushing = false;
        if (start == _start && _queue is { } queue)
        {
            for (; count > 0 && queue.TryPop(out DescriptorChain? chain); count--)
                if (!Answer(queue, chain, done)) return;
            queue.Signal();
        }
        Begin();
    }

    bool Answer(Virtqueue queue, DescriptorChain chain, bool done)
    {
        if (chain.ReadableLength < RequestLength || chain.WritableLength < ResponseLength)
        {
            queue.Unpop(chain);
            Control.Fail("a request without its type, or without room for a response");
            return false;
        }
        Span<byte> word = stackalloc byte[RequestLength];
        chain.Readable.Slice(0, RequestLength).CopyTo(word);
        bool isFlush = BinaryPrimitives.ReadUInt32LittleEndian(word) == FlushRequest;
        BinaryPrimitives.WriteUInt32LittleEndian(word, isFlush && done ? Ok : Failed);
        chain.Writable.Slice(0, ResponseLength).CopyFrom(word);
        queue.Push(chain, ResponseLength);
        return true;
    }

    static VirtioPmem FromProperties(string name, Properties values, DeviceSite site)
    {
        string id = values.Text("memdev") ?? throw values.Error("'memdev' property must be set");
        MemoryBackend memory = site.Object<MemoryBackend>(id, "memory");
        if (memory.IsTaken) throw values.Error($"can't use already busy memdev: {id}");
        if (memory.Ram.File is not { IsShared: true } file)
            throw values.Error($"memdev '{id}' is memory of this process alone, which outlasts nothing; give -object "
                + $"memory-backend-file,id={id},mem-path=FILE,size=…,share=on");
        var device = new VirtioPmem(name, memory, file.Flush)
            { Id = site.Id, Backend = id, Post = site.Board.Post };
        memory.Prepare(message => values.Error(message));
        site.PlaceMemory(device, MemoryRegion.OfRam(id, memory.Ram, 0, memory.Size),
            MemoryWish.Of(memory, values.Number("memaddr"), message => values.Error(message)),
            at => device.Address = at);
        return device;
    }
}
