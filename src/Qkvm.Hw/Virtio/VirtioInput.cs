using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>What virtio's keyboards and pointers share: what they are, as the configuration space tells it piece by
/// piece, and events to the driver. Virtio 1.2, section 5.8.</summary>
/// <remarks>What happens while the driver gives no buffers the derived class keeps, as a sum or by having no
/// room.</remarks>
public abstract class VirtioInput : VirtioDevice
{
    // enum virtio_input_config_select, 5.8.4
    const byte IdName = 1, IdSerial = 2, IdDevids = 3, EventBits = 0x11, AbsoluteInfo = 0x12;
    const int Select = 0, SubSelect = 1, SizeField = 2, Payload = 8, MostPayload = 128;
    const ushort Virtual = 6, Vendor = 0x0627, Version = 1;        // BUS_VIRTUAL; those that QEMU has
    const int EventQueue = 0, EventLength = 8, QueueSize = 64;

    static readonly int[] Sizes = [QueueSize, QueueSize];

    readonly string _title;
    readonly string? _serial;
    readonly ushort _product;
    readonly Dictionary<ushort, byte[]> _events = [];              // bits of codes by their type
    byte _select, _subSelect;
    Virtqueue? _queue;                                             // not migrated: null while stopped

    /// <param name="title">As the guest shows it.</param>
    /// <param name="serial">Null: none.</param>
    protected VirtioInput(string name, string title, string? serial, ushort product)
        : base(name, 18, Payload + MostPayload) => (_title, _serial, _product) = (title, serial, product);

    public override IReadOnlyList<int> QueueSizes => Sizes;
    public override ulong OfferedFeatures => 0;

    /// <summary>Makes codes of a type known.</summary>
    protected void Has(ushort type, params ReadOnlySpan<ushort> codes)
    {
        if (!_events.TryGetValue(type, out byte[]? bits)) _events[type] = bits = new byte[MostPayload];
        foreach (ushort code in codes) bits[code / 8] |= (byte)(1 << code % 8);
    }

    /// <summary>The largest value of an axis that has positions; null: it has none.</summary>
    protected virtual uint? LargestPosition => null;

    public override void ReadConfig(int offset, Span<byte> data)
    {
        Span<byte> payload = ConfigSpace.AsSpan(Payload);
        payload.Clear();
        (ConfigSpace[Select], ConfigSpace[SubSelect]) = (_select, _subSelect);
        ConfigSpace[SizeField] = (byte)Describe(payload);
        base.ReadConfig(offset, data);
    }

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
            switch (offset + i)
            {
                case Select: _select = data[i]; break;
                case SubSelect: _subSelect = data[i]; break;
            }
    }

    /// <summary>Writes what was selected; returns its length, 0 for what there is not.</summary>
    int Describe(Span<byte> payload)
    {
        switch (_select)
        {
            case IdName when _subSelect == 0: return Text(_title, payload);
            case IdSerial when _subSelect == 0: return Text(_serial ?? "", payload);
            case IdDevids when _subSelect == 0:
                BinaryPrimitives.WriteUInt16LittleEndian(payload, Virtual);
                BinaryPrimitives.WriteUInt16LittleEndian(payload[2..], Vendor);
                BinaryPrimitives.WriteUInt16LittleEndian(payload[4..], _product);
                BinaryPrimitives.WriteUInt16LittleEndian(payload[6..], Version);
                return 8;
            case EventBits when _events.TryGetValue(_subSelect, out byte[]? bits):
                bits.CopyTo(payload);
                return bits.AsSpan().LastIndexOfAnyExcept((byte)0) + 1;
            case AbsoluteInfo when LargestPosition is { } largest && _subSelect is (byte)EvdevCodes.X or
                (byte)EvdevCodes.Y:
                BinaryPrimitives.WriteUInt32LittleEndian(payload[4..], largest);
                return 20;                                         // min, max, fuzz, flat, res
            default: return 0;
        }
    }

    static int Text(string text, Span<byte> payload) =>
        Encoding.UTF8.TryGetBytes(text, payload, out int count) ? count : 0;

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) => _queue = queues[EventQueue];
    public override void Stop() => _queue = null;

    public override void Kick(Virtqueue queue)
    {
        if (queue.Index == EventQueue) RoomCame();
        else TakeStatus(queue);
    }

    /// <summary>The driver gave buffers for events.</summary>
    protected abstract void RoomCame();

    /// <summary>The driver sets a light or the like.</summary>
    protected virtual void StatusCame(ushort type, ushort code, uint value) { }

    /// <summary>Room for this many events and the SYN that ends them.</summary>
    protected bool HasRoomFor(int events)
    {
        if (_queue is not { } queue) return false;
        return queue.Available > events || queue.EnableKicks() && queue.Available > events;
    }

    /// <summary>Gives the driver a report, which <see cref="HasRoomFor"/> has promised room for.</summary>
    protected void Report(params ReadOnlySpan<(ushort Type, ushort Code, int Value)> events)
    {
        if (_queue is not { } queue) return;
        foreach ((ushort type, ushort code, int value) in events) Put(queue, type, code, value);
        Put(queue, EvdevCodes.Sync, 0, 0);
        queue.Signal();
    }

    static void Put(Virtqueue queue, ushort type, ushort code, int value)
    {
        if (!queue.TryPop(out DescriptorChain? chain)) return;
        Span<byte> raw = stackalloc byte[EventLength];             // struct virtio_input_event
        BinaryPrimitives.WriteUInt16LittleEndian(raw, type);
        BinaryPrimitives.WriteUInt16LittleEndian(raw[2..], code);
        BinaryPrimitives.WriteInt32LittleEndian(raw[4..], value);
        int count = (int)Math.Min(EventLength, chain.WritableLength);
        chain.Writable.Slice(0, count).CopyFrom(raw[..count]);
        queue.Push(chain, (uint)count);
    }

    void TakeStatus(Virtqueue queue)
    {
        Span<byte> raw = stackalloc byte[EventLength];
        int budget = Virtqueue.Burst;
        do
            for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
            {
                bool isWhole = chain.ReadableLength >= EventLength;
                if (isWhole) chain.Readable.Slice(0, EventLength).CopyTo(raw);
                queue.Push(chain, 0);
                if (isWhole)
                    StatusCame(BinaryPrimitives.ReadUInt16LittleEndian(raw),
                        BinaryPrimitives.ReadUInt16LittleEndian(raw[2..]),
                        BinaryPrimitives.ReadUInt32LittleEndian(raw[4..]));
            }
        while (queue.EnableKicks() && budget > 0);
        if (budget < Virtqueue.Burst) queue.Signal();
    }

    public override void Reset() => (_select, _subSelect) = (0, 0);

    public override void Exchange(StateStream state)
    {
        state.Field("select", ref _select);
        state.Field("sub-select", ref _subSelect);
    }
}
