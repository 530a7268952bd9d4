using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>Memory device: a region of addresses of which the guest takes as many blocks as it is asked to. Virtio 1.2,
/// section 5.15.</summary>
/// <remarks>A driver that starts finds what it had (5.15.6.2); with the machine's reset all is unplugged. Deviations:
/// unplugged blocks read as zeros, or keep what is written until they are plugged; the specification lets anything
/// happen there.</remarks>
public sealed partial class VirtioMem : VirtioDevice, IGrowingMemory, ILiveProperties
{
    const ushort MemoryDevice = 24;                                // section 5
    const ulong AcpiProximity = 1 << 0, UnpluggedInaccessible = 1 << 1;      // 5.15.3

    // struct virtio_mem_config, 5.15.4
    const int ConfigLength = 56, ConfigBlockSize = 0, ConfigNode = 8, ConfigAddress = 16, ConfigRegionSize = 24,
        ConfigUsableSize = 32, ConfigPluggedSize = 40, ConfigRequestedSize = 48;

    // struct virtio_mem_req and virtio_mem_resp, 5.15.6
    const int RequestLength = 24, RequestAddress = 8, RequestBlocks = 16, ResponseLength = 10, ResponseState = 8;
    const ushort Plug = 0, Unplug = 1, UnplugEverything = 2, State = 3;
    const ushort Ack = 0, Nack = 1, Busy = 2, Error = 3;

    /// <summary>Beyond what is requested, so that Linux, which adds sections of 128 MiB, has room.</summary>
    const ulong UsableExtent = 256 << 20;

    static readonly int[] Sizes = [128];

    readonly bool _hasNode, _isInaccessible, _isPreallocated;
    readonly PluggedBlocks _blocks;
    ulong _requestedSize, _usableSize;

    /// <param name="region">Bytes, all of the memory.</param>
    /// <param name="hasNode">There are nodes, and <paramref name="node"/> is one.</param>
    /// <param name="isInaccessible">Drivers must know that unplugged memory cannot be read.</param>
    public VirtioMem(string name, MemoryBackend memory, ulong blockSize, int node, bool hasNode, bool isInaccessible,
        bool isPreallocated) : base(name, MemoryDevice, ConfigLength)
    {
        (Memory, BlockSize, Node) = (memory, blockSize, node);
        (_hasNode, _isInaccessible, _isPreallocated) = (hasNode, isInaccessible, isPreallocated);
        _blocks = new PluggedBlocks((int)(memory.Size / blockSize));
    }

    public override IReadOnlyList<int> QueueSizes => Sizes;
    public override ulong OfferedFeatures => (_hasNode ? AcpiProximity : 0)
        | (_isInaccessible ? UnpluggedInaccessible : 0);

    public string Kind => "virtio-mem";
    public string? Id { get; init; }
    public string Backend { get; init; } = "";
    public MemoryBackend Memory { get; }
    public ulong Address { get; set; }
    public ulong Room => Memory.Size;
    public ulong BlockSize { get; }
    public int Node { get; }
    public string WhyKept => IMemoryDevice.OnBus;

    /// <summary>Bytes that are plugged.</summary>
    public ulong Size => (ulong)_blocks.Count * BlockSize;

    /// <summary>Bytes that the guest is asked to have, a multiple of <see cref="BlockSize"/>.</summary>
    public ulong RequestedSize
    {
        get => _requestedSize;
        set
        {
            if (value == _requestedSize) return;
            _requestedSize = value;
            ResizeUsable(mayShrink: false);
            Control.ConfigChanged();
        }
    }

    /// <summary>Raised when <see cref="Size"/> has changed.</summary>
    public event Action? SizeChanged;

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> config = ConfigSpace;
        BinaryPrimitives.WriteUInt64LittleEndian(config[ConfigBlockSize..], BlockSize);
        BinaryPrimitives.WriteUInt16LittleEndian(config[ConfigNode..], (ushort)Node);
        BinaryPrimitives.WriteUInt64LittleEndian(config[ConfigAddress..], Address);
        BinaryPrimitives.WriteUInt64LittleEndian(config[ConfigRegionSize..], Room);
        BinaryPrimitives.WriteUInt64LittleEndian(config[ConfigUsableSize..], _usableSize);
        BinaryPrimitives.WriteUInt64LittleEndian(config[ConfigPluggedSize..], Size);
        BinaryPrimitives.WriteUInt64LittleEndian(config[ConfigRequestedSize..], _requestedSize);
        base.ReadConfig(offset, data);
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) { }
    public override void Stop() { }

    public override void Kick(Virtqueue queue)
    {
        int budget = queue.Setup.Size;
        bool any = false;
        Span<byte> request = stackalloc byte[RequestLength], response = stackalloc byte[ResponseLength];
        do
            for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
            {
                if (chain.ReadableLength < RequestLength || chain.WritableLength < ResponseLength)
                {
                    queue.Unpop(chain);
                    Control.Fail("a request without its header, or without room for a response");
                    return;
                }
                chain.Readable.Slice(0, RequestLength).CopyTo(request);
                response.Clear();
                Obey(request, response);
                chain.Writable.Slice(0, ResponseLength).CopyFrom(response);
                queue.Push(chain, ResponseLength);
                any = true;
            }
        while (queue.EnableKicks() && budget > 0);
        if (any) queue.Signal();
    }

    public void UnplugAll()
    {
        if (_blocks.Count > 0)
        {
            Memory.Ram.Discard(0, Room);
            _blocks.Clear();
            SizeChanged?.Invoke();
        }
        ResizeUsable(mayShrink: true);
    }

    /// <summary>A driver's reset keeps what is plugged (5.15.6.2).</summary>
    public override void Reset() { }

    public override void Exchange(StateStream state)
    {
        ulong address = Address, blockSize = BlockSize, before = Size;
        state.Field("address", ref address);
        state.Field("block-size", ref blockSize);
        state.Field("requested-size", ref _requestedSize);
        state.Field("usable-size", ref _usableSize);
        if (address != Address || blockSize != BlockSize)
            throw state.Refuse("address", $"{Name} is at {address:x} with blocks of {blockSize:x} there, here at "
                + $"{Address:x} with blocks of {BlockSize:x}");
        _blocks.Exchange(state);
        if (_usableSize > Room || _usableSize % BlockSize != 0 || _requestedSize > Room
            || _requestedSize % BlockSize != 0)
            throw state.Refuse("usable-size", $"{Name}: {_usableSize:x} usable, {_requestedSize:x} requested");
        if (state.IsLoading && Size != before) SizeChanged?.Invoke();
    }

    /// <summary>5.15.6: a request that does not fit is refused, and nothing is done of it.</summary>
    void Obey(ReadOnlySpan<byte> request, Span<byte> response)
    {
        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(request[RequestAddress..]);
        ushort count = BinaryPrimitives.ReadUInt16LittleEndian(request[RequestBlocks..]);
        ushort answer = BinaryPrimitives.ReadUInt16LittleEndian(request) switch
        {
            Plug => IsRange(address, count, out int first) ? PlugBlocks(first, count) : Error,
            Unplug => IsRange(address, count, out int first) ? UnplugBlocks(first, count) : Error,
            UnplugEverything => AfterUnplugAll(),
            State when IsRange(address, count, out int first) => Tell(_blocks.StateOf(first, count), response),
            _ => Error,
        };
        BinaryPrimitives.WriteUInt16LittleEndian(response, answer);
    }

    static ushort Tell(BlockState state, Span<byte> response)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(response[ResponseState..], (ushort)state);
        return Ack;
    }

    ushort PlugBlocks(int first, int count)
    {
        ulong length = (ulong)count * BlockSize;
        if (_blocks.StateOf(first, count) != BlockState.Unplugged) return Error;
        if (Size + length > _requestedSize) return Nack;
        if (_isPreallocated && !Memory.Ram.Populate((ulong)first * BlockSize, length))
        {
            Memory.Ram.Discard((ulong)first * BlockSize, length);
            return Busy;
        }
        _blocks.Set(first, count, true);
        SizeChanged?.Invoke();
        return Ack;
    }

    ushort UnplugBlocks(int first, int count)
    {
        if (_blocks.StateOf(first, count) != BlockState.Plugged) return Error;
        Memory.Ram.Discard((ulong)first * BlockSize, (ulong)count * BlockSize);
        _blocks.Set(first, count, false);
        SizeChanged?.Invoke();
        return Ack;
    }

    ushort AfterUnplugAll()
    {
        ulong usable = _usableSize;
        UnplugAll();
        if (usable != _usableSize) Control.ConfigChanged();
        return Ack;
    }

    /// <summary>Blocks of the part that is usable.</summary>
    bool IsRange(ulong address, ushort count, out int first)
    {
        ulong at = address - Address, length = count * BlockSize;
        first = 0;
        if (count == 0 || address < Address || at % BlockSize != 0 || length > _usableSize || at > _usableSize - length)
            return false;
        first = (int)(at / BlockSize);
        return true;
    }

    /// <summary>5.15.5: it shrinks with an unplugging of all alone.</summary>
    void ResizeUsable(bool mayShrink)
    {
        ulong usable = _requestedSize == 0 ? 0
            : (Math.Min(Room, _requestedSize + UsableExtent) + BlockSize - 1) / BlockSize * BlockSize;
        if (usable > _usableSize || mayShrink) _usableSize = usable;
    }
}
