using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Display;
using static Qkvm.Hw.Virtio.Gpu.GpuProtocol;

namespace Qkvm.Hw.Virtio.Gpu;

/// <summary>GPU device, 2D: pictures that the guest fills from its memory and shows on monitors. Virtio 1.2, section
/// 5.7.</summary>
/// <remarks>Deviations: monitors never change size; no 3D, no blobs, no contexts; flushing needs nothing to be done, as
/// viewers ask for the picture.</remarks>
public sealed class VirtioGpu : VirtioDevice
{
    const ushort GpuId = 16;
    const int ConfigBytes = 16, EventsAt = 0, EventsClearAt = 4, ScanoutsAt = 8;
    const int DisplayChanged = 1;                                  // an event
    const ulong EdidFeature = 1 << 1;
    const int ControlQueueSize = 256, CursorQueueSize = 16;

    /// <summary>Bytes that are copied in one go: then others have their turn.</summary>
    const long MostAtOnce = 32 << 20;
    const int MostResources = 4096;
    static readonly int[] s_sizes = [ControlQueueSize, CursorQueueSize];

    readonly SortedDictionary<uint, GpuResource> _resources = [];
    readonly GpuScanout[] _scanouts;
    readonly int _width, _height;
    readonly long _mostMemory;
    readonly bool _hasEdid;
    readonly IVmTimer _goOn;
    readonly byte[] _command = new byte[MostCommand], _answer = new byte[MostAnswer];   // not migrated: of Execute
    IReadOnlyList<Virtqueue> _queues = [];                         // not migrated: none while stopped

    internal static Property[] Options =>
    [
        Property.Number("max_outputs", 1, 1, MostScanouts, "monitors"),
        Property.Size("max_hostmem", 256 << 20, "of all pictures together"),
        Property.Number("xres", 1280, 1, Edid.MaxResolution, "pixels across that the first monitor prefers"),
        Property.Number("yres", 800, 1, Edid.MaxResolution, "lines that it prefers"),
        Property.Bool("edid", true, "identify the monitors to the guest"),
        Property.Missing("blob", "off"),
    ];

    /// <param name="idle">What the first monitor shows while there is no picture; null: black.</param>
    public VirtioGpu(string name, Properties values, DeviceSite site, IDisplaySource? idle = null)
        : base(name, GpuId, ConfigBytes)
    {
        _scanouts = [.. Enumerable.Range(0, (int)values.Number("max_outputs"))
            .Select(i => new GpuScanout(i == 0 ? idle : null))];
        (_width, _height) = ((int)values.Number("xres"), (int)values.Number("yres"));
        (_mostMemory, _hasEdid) = ((long)Math.Min(values.Size("max_hostmem"), 1UL << 40), values.Bool("edid"));
        _goOn = site.Clock.CreateTimer(() =>
        {
            foreach (Virtqueue queue in _queues) Kick(queue);
        });
        BinaryPrimitives.WriteInt32LittleEndian(ConfigSpace.AsSpan(ScanoutsAt), _scanouts.Length);
        foreach (GpuScanout scanout in _scanouts)
        {
            site.AddDisplay(scanout);
            scanout.Wished += OnWish;
        }
    }

    public override IReadOnlyList<int> QueueSizes => s_sizes;
    public override ulong OfferedFeatures => _hasEdid ? EdidFeature : 0;

    long MemoryUsed
    {
        get
        {
            long used = 0;
            foreach (GpuResource resource in _resources.Values) used += resource.Size;
            return used;
        }
    }

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) => _queues = queues;

    public override void Stop()
    {
        _queues = [];
        _goOn.Cancel();
        Reset();
    }

    public override void Kick(Virtqueue queue)
    {
        long moved = 0;
        bool any = false;
        for (int budget = queue.Setup.Size; budget > 0 && moved < MostAtOnce
            && queue.TryPop(out DescriptorChain? chain); budget--)
        {
            any = true;
            queue.Push(chain, (uint)Execute(chain, ref moved));
        }
        if (any) queue.Signal();
        if (queue.EnableKicks()) _goOn.ArmAt(0);
    }

    /// <summary>events_clear: what the guest has seen.</summary>
    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if (offset != EventsClearAt || data.Length != 4) return;
        Events &= ~BinaryPrimitives.ReadInt32LittleEndian(data);
    }

    /// <summary>events_read, section 5.7.4.</summary>
    int Events
    {
        get => BinaryPrimitives.ReadInt32LittleEndian(ConfigSpace.AsSpan(EventsAt));
        set => BinaryPrimitives.WriteInt32LittleEndian(ConfigSpace.AsSpan(EventsAt), value);
    }

    void OnWish()
    {
        Events |= DisplayChanged;
        Control.ConfigChanged();
    }

    /// <summary>The size that a monitor prefers: what somebody has asked for, or that of the first.</summary>
    (int Width, int Height) SizeOf(int scanout) => _scanouts[scanout].Wish ?? (_width, _height);

    public override void Reset()
    {
        foreach (GpuScanout scanout in _scanouts) scanout.Reset();
        _resources.Clear();
    }

    public override void Exchange(StateStream state)
    {
        int count = _resources.Count;
        state.Field("resources", ref count, 0, MostResources);
        if (state.IsLoading)
        {
            Reset();
            for (int i = 0; i < count; i++)
            {
                GpuResource loaded = GpuResource.Load(state.Group("resource", i), _mostMemory - MemoryUsed);
                if (loaded.Id == 0 || !_resources.TryAdd(loaded.Id, loaded))
                    throw state.Refuse("resources", $"{loaded.Id} is no new number");
            }
        }
        else
        {
            int i = 0;
            foreach (GpuResource resource in _resources.Values) resource.Save(state.Group("resource", i++));
        }
        for (int i = 0; i < _scanouts.Length; i++)
            _scanouts[i].Exchange(state.Group("scanout", i), id => _resources.GetValueOrDefault(id));
    }

    /// <returns>Bytes of the answer.</returns>
    int Execute(DescriptorChain chain, ref long moved)
    {
        int given = (int)Math.Min(chain.ReadableLength, MostCommand);
        _command.AsSpan(given).Clear();
        chain.Readable.Slice(0, given).CopyTo(_command.AsSpan(0, given));
        Array.Clear(_answer);
        int length = HeaderSize;
        uint flags = U32(FlagsAt);
        uint type = given < HeaderSize ? Unspecified : Execute(chain, ref length, ref moved);
        BinaryPrimitives.WriteUInt32LittleEndian(_answer, type);
        if ((flags & FlagFence) != 0) _command.AsSpan(FlagsAt, HeaderSize - FlagsAt).CopyTo(_answer.AsSpan(FlagsAt));
        length = (int)Math.Min(length, chain.WritableLength);
        chain.Writable.Slice(0, length).CopyFrom(_answer.AsSpan(0, length));
        return length;
    }

    uint Execute(DescriptorChain chain, ref int length, ref long moved)
    {
        const int Body = HeaderSize, AfterRectangle = HeaderSize + 16;
        switch (U32(0))
        {
            case GetDisplayInfo: return TellDisplays(ref length);
            case GetEdid when _hasEdid: return TellMonitor(U32(Body), ref length);
            case ResourceCreate2d: return Create(U32(Body), U32(Body + 4), U32(Body + 8), U32(Body + 12));
            case ResourceUnref: return Remove(U32(Body));
            case SetScanout: return Show(Rectangle, U32(AfterRectangle), U32(AfterRectangle + 4));
            case ResourceFlush: return Check(U32(AfterRectangle), Rectangle, out _);
            case TransferToHost2d:
                uint fault = Check(U32(AfterRectangle + 8), Rectangle, out GpuResource? filled);
                if (fault != OkNoData) return fault;
                if (!filled!.HasBacking) return Unspecified;
                moved += (long)Rectangle.Width * Rectangle.Height * GpuResource.PixelSize;
                filled.Transfer(Dma, Rectangle, U64(AfterRectangle));
                return OkNoData;
            case ResourceAttachBacking: return Attach(U32(Body), U32(Body + 4), chain.Readable);
            case ResourceDetachBacking:
                if (Find(U32(Body)) is not { HasBacking: true } detached) return InvalidResource;
                detached.Attach([]);
                return OkNoData;
            case UpdateCursor or GpuProtocol.MoveCursor: return Point(U32(0) == UpdateCursor);
            default: return Unspecified;
        }
    }

    Dma Dma => Control.Transport.Dma;
    uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_command.AsSpan(at));
    ulong U64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(_command.AsSpan(at));
    GpuRectangle Rectangle => new(U32(HeaderSize), U32(HeaderSize + 4), U32(HeaderSize + 8), U32(HeaderSize + 12));
    GpuResource? Find(uint id) => _resources.GetValueOrDefault(id);

    uint Check(uint id, in GpuRectangle part, out GpuResource? resource)
    {
        resource = Find(id);
        return resource == null ? InvalidResource : resource.Contains(part) ? OkNoData : InvalidParameter;
    }

    /// <summary>The first is on; others are once somebody has asked for a size of theirs.</summary>
    uint TellDisplays(ref int length)
    {
        for (int i = 0; i < _scanouts.Length; i++)
        {
            Span<byte> display = _answer.AsSpan(HeaderSize + i * DisplaySize, DisplaySize);
            (int width, int height) = SizeOf(i);
            BinaryPrimitives.WriteInt32LittleEndian(display[8..], width);
            BinaryPrimitives.WriteInt32LittleEndian(display[12..], height);
            BinaryPrimitives.WriteInt32LittleEndian(display[16..], i == 0 || _scanouts[i].Wish != null ? 1 : 0);
        }
        length = HeaderSize + MostScanouts * DisplaySize;
        return OkDisplayInfo;
    }

    uint TellMonitor(uint scanout, ref int length)
    {
        if (scanout >= _scanouts.Length) return InvalidParameter;
        BinaryPrimitives.WriteInt32LittleEndian(_answer.AsSpan(HeaderSize), EdidRoom);
        (int width, int height) = SizeOf((int)scanout);
        Edid.Build(width, height).CopyTo(_answer.AsSpan(HeaderSize + 8));
        length = MostAnswer;
        return OkEdid;
    }

    uint Create(uint id, uint format, uint width, uint height)
    {
        if (id == 0 || Find(id) != null) return InvalidResource;
        if (_resources.Count >= MostResources) return OutOfMemory;
        if (GpuResource.Create(id, format, width, height, _mostMemory - MemoryUsed, out bool isTooLarge)
            is not { } made) return isTooLarge ? OutOfMemory : InvalidParameter;
        _resources[id] = made;
        return OkNoData;
    }

    uint Remove(uint id)
    {
        if (Find(id) is not { } removed) return InvalidResource;
        foreach (GpuScanout scanout in _scanouts)
            if (scanout.Resource == removed) scanout.Show(null, default);
        _resources.Remove(id);
        return OkNoData;
    }

    uint Show(in GpuRectangle part, uint scanout, uint id)
    {
        if (scanout >= _scanouts.Length) return InvalidScanout;
        if (id == 0)
        {
            _scanouts[scanout].Show(null, default);
            return OkNoData;
        }
        uint fault = Check(id, part, out GpuResource? shown);
        if (fault != OkNoData) return fault;
        if (part.Width == 0 || part.Height == 0) return InvalidParameter;
        _scanouts[scanout].Show(shown, part);
        return OkNoData;
    }

    uint Attach(uint id, uint count, in ScatterList command)
    {
        const int Entries = HeaderSize + 8;
        if (Find(id) is not { } resource) return InvalidResource;
        if (resource.HasBacking || count is 0 or > GpuResource.MostEntries
            || command.Length < Entries + (long)count * EntrySize) return Unspecified;
        var bytes = new byte[count * EntrySize];
        command.Slice(Entries, bytes.Length).CopyTo(bytes);
        var backing = new (ulong, uint)[count];
        for (int i = 0; i < backing.Length; i++)
            backing[i] = (BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(i * EntrySize)),
                BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(i * EntrySize + 8)));
        resource.Attach(backing);
        return OkNoData;
    }

    /// <summary>struct virtio_gpu_update_cursor: position, picture, hot spot.</summary>
    uint Point(bool isNewShape)
    {
        const int Shape = HeaderSize + 16;
        uint scanout = U32(HeaderSize);
        if (scanout >= _scanouts.Length) return InvalidScanout;
        _scanouts[scanout].MoveCursor(U32(HeaderSize + 4), U32(HeaderSize + 8));
        if (isNewShape) _scanouts[scanout].SetCursor(Find(U32(Shape)), U32(Shape + 4), U32(Shape + 8));
        return OkNoData;
    }
}
