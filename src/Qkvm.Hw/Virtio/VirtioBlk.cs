using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Virtio;

/// <summary>What shapes a virtio block device.</summary>
/// <param name="Serial">Up to 20 bytes, for VIRTIO_BLK_T_GET_ID.</param>
/// <param name="MinIo">Bytes, 0 for unknown; so is <paramref name="OptimalIo"/>.</param>
public sealed record VirtioBlkOptions(string Serial = "", int Queues = 1, int QueueSize = 256, bool WriteCache = true,
    bool ConfigWce = true, bool Discard = true, bool WriteZeroes = true, int LogicalBlock = 512,
        int PhysicalBlock = 512,
    uint MinIo = 0, uint OptimalIo = 0);

/// <summary>Block device. Virtio 1.2, section 5.2. Any number of requests is in flight, limited by the
/// queues.</summary>
/// <remarks>Deviations: no SCSI passthrough, zoned storage or secure erase; one segment per discard and write-zeroes
/// request, as its configuration says.</remarks>
public sealed class VirtioBlk : VirtioDevice
{
    public static readonly DeviceModel[] Models =
        VirtioPciModels.Family("virtio-blk-pci", "virtio disk", DeviceCategory.Storage,
        0x010000,
        [
            .. DiskProperties.All, .. QueueLoops.Properties,
            Property.Bool("config-wce", true),
            Property.Automatic("num-queues", 1, MostQueues), Property.Number("queue-size", 256),
            Property.Bool("discard", true), Property.Bool("write-zeroes", true),
            Property.Size("logical_block_size", 0), Property.Size("physical_block_size", 0),
            Property.Size("min_io_size", 0), Property.Size("opt_io_size", 0), Property.Number("class", 0),
            Property.Missing("scsi", "off", "use scsi-hd on a virtio-scsi-pci"),
        ],
        device => device.QueueSizes.Count + 1, FromProperties);

    // Feature bits, 5.2.3
    const ulong SegMax = 1 << 2, Geometry = 1 << 4, ReadOnly = 1 << 5, BlkSize = 1 << 6, Flush = 1 << 9,
        Topology = 1 << 10, ConfigWce = 1 << 11, Mq = 1 << 12, DiscardFeature = 1 << 13, WriteZeroesFeature = 1 << 14;

    // struct virtio_blk_config, 5.2.4
    const int Capacity = 0, SegMaxField = 12, Cylinders = 16, Heads = 18, Sectors = 19, BlkSizeField = 20,
        PhysicalBlockExp = 24, MinIoSize = 26, OptIoSize = 28, Writeback = 32, NumQueues = 34, MaxDiscardSectors = 36,
        MaxDiscardSeg = 40, DiscardSectorAlignment = 44, MaxWriteZeroesSectors = 48, MaxWriteZeroesSeg = 52,
        WriteZeroesMayUnmap = 56, ConfigLength = 60;

    internal const int SectorSize = 512, IdLength = 20;
    internal const uint MaxSectors = 4194303;                      // of one discard or write-zeroes request
    const ulong MostQueues = 64;

    readonly VirtioBlkOptions _options;
    readonly int[] _queueSizes;
    readonly VirtioBlkQueue[] _queues;

    /// <param name="loops">Where the data move: of queue i on loop i modulo their number.</param>
    /// <param name="post">Runs work on the main loop under the machine lock.</param>
    public VirtioBlk(string name, BlockBackend backend, VirtioBlkOptions options, IoLoop[] loops, Action<Action> post,
        Func<bool>? isGuestAsleep = null) : base(name, 2, ConfigLength)
    {
        Backend = backend;
        Post = post;
        if (isGuestAsleep != null) IsGuestAsleep = isGuestAsleep;
        _options = options;
        _queueSizes = new int[options.Queues];
        Array.Fill(_queueSizes, options.QueueSize);
        _queues = new VirtioBlkQueue[options.Queues];
        for (int i = 0; i < _queues.Length; i++) _queues[i] = new VirtioBlkQueue(this, loops[i % loops.Length], i);
        backend.MediumChanged += OnMediumChanged;
        FillConfig();
        Reset();
    }

    public BlockBackend Backend { get; }

    internal ReadOnlySpan<char> Serial => _options.Serial;
    internal int LogicalBlock => _options.LogicalBlock;
    internal bool AllowsDiscard => _options.Discard;
    internal bool AllowsWriteZeroes => _options.WriteZeroes;

    public override IReadOnlyList<int> QueueSizes => _queueSizes;

    public override ulong OfferedFeatures =>
        SegMax | Geometry | BlkSize | Flush | Topology
        | (_options.ConfigWce ? ConfigWce : 0)
        | (_options.Queues > 1 ? Mq : 0)
        | (Backend.IsReadOnly ? ReadOnly : 0)
        | (_options.Discard && !Backend.IsReadOnly ? DiscardFeature : 0)
        | (_options.WriteZeroes && !Backend.IsReadOnly ? WriteZeroesFeature : 0);

    public override void ReadConfig(int offset, Span<byte> data)
    {
        ConfigSpace[Writeback] = Backend.WriteCache ? (byte)1 : (byte)0;
        base.ReadConfig(offset, data);
    }

    public override void WriteConfig(int offset, ReadOnlySpan<byte> data)
    {
        if ((Control.Features & ConfigWce) == 0 || offset > Writeback || offset + data.Length <= Writeback) return;
        Backend.WriteCache = (data[Writeback - offset] & 1) != 0;
    }

    /// <summary>A driver that cannot flush gets write-through (5.2.6.2).</summary>
    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        if ((features & (Flush | ConfigWce)) == 0) Backend.WriteCache = false;
    }

    public override void Stop() { }

    public override void Kick(Virtqueue queue) { }                 // the queues are on their loops

    public override LoopQueue QueueOf(int index) => _queues[index];

    public override void Reset() => Backend.WriteCache = _options.WriteCache;

    public override void Exchange(StateStream state)
    {
        bool writeCache = Backend.WriteCache;
        state.Field("write-cache", ref writeCache);
        Backend.WriteCache = writeCache;
    }

    void OnMediumChanged()
    {
        FillConfig();
        Control.ConfigChanged();
    }

    void FillConfig()
    {
        Span<byte> config = ConfigSpace;
        long sectors = Backend.Length / SectorSize;
        uint logical = (uint)_options.LogicalBlock;
        BinaryPrimitives.WriteInt64LittleEndian(config[Capacity..],
            sectors / (logical / SectorSize) * (logical / SectorSize));
        BinaryPrimitives.WriteInt32LittleEndian(config[SegMaxField..], Math.Max(1, _options.QueueSize - 2));
        BinaryPrimitives.WriteUInt16LittleEndian(config[Cylinders..],
            (ushort)Math.Clamp(sectors / (16 * 63), 2, 16383));
        config[Heads] = 16;
        config[Sectors] = 63;
        BinaryPrimitives.WriteUInt32LittleEndian(config[BlkSizeField..], logical);
        config[PhysicalBlockExp] = (byte)BitOperations.Log2((uint)_options.PhysicalBlock / logical);
        BinaryPrimitives.WriteUInt16LittleEndian(config[MinIoSize..], (ushort)(_options.MinIo / logical));
        BinaryPrimitives.WriteUInt32LittleEndian(config[OptIoSize..], _options.OptimalIo / logical);
        BinaryPrimitives.WriteUInt16LittleEndian(config[NumQueues..], (ushort)_options.Queues);
        BinaryPrimitives.WriteUInt32LittleEndian(config[MaxDiscardSectors..], MaxSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(config[MaxDiscardSeg..], 1);
        BinaryPrimitives.WriteUInt32LittleEndian(config[DiscardSectorAlignment..], logical / SectorSize);
        BinaryPrimitives.WriteUInt32LittleEndian(config[MaxWriteZeroesSectors..], MaxSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(config[MaxWriteZeroesSeg..], 1);
        config[WriteZeroesMayUnmap] = 1;
    }

    static int QueuesOf(Properties values) => (int)(values.NumberOrAuto("num-queues") ?? 1);

    static VirtioBlk FromProperties(string name, Properties values, DeviceSite site)
    {
        if (values.Text("drive") is not { } id)
            throw new ConfigurationException($"{values.Owner}: drive property not set; give drive=ID of a -drive " +
                "if=none,id=ID,… or -blockdev");
        BlockBackend backend = DiskProperties.Take(values, site, id);
        if (!backend.HasMedium)
            throw new ConfigurationException($"{values.Owner}: device needs media, but drive '{id}' is empty; give " +
                "it file=");
        ulong queueSize = values.Number("queue-size");
        if (queueSize is < 2 or > 1024 || !BitOperations.IsPow2(queueSize))
            throw new ConfigurationException($"{values.Owner}: queue-size={queueSize} must be a power of 2, 2 to 1024");
        string serial = values.Text("serial") ?? backend.Serial ?? "";
        serial = serial[..Math.Min(serial.Length, IdLength)];      // the guest sees its beginning, as with QEMU
        while (Encoding.UTF8.GetByteCount(serial) > IdLength) serial = serial[..^1];
        int logical = BlockSize("logical_block_size", 512), physical = BlockSize("physical_block_size", logical);
        if (physical < logical)
            throw new ConfigurationException($"{values.Owner}: physical_block_size {physical} is smaller than " +
                $"logical_block_size {logical}");
        return new VirtioBlk(name, backend, new VirtioBlkOptions(serial, QueuesOf(values), (int)queueSize,
            backend.WriteCache, values.Bool("config-wce"),
            values.Bool("discard"), values.Bool("write-zeroes"), logical, physical, IoSize("min_io_size"),
            IoSize("opt_io_size")), QueueLoops.Of(values, site, QueuesOf(values)), site.Board.Post,
            site.Board.IsGuestAsleep);

        int BlockSize(string property, int automatic)
        {
            ulong size = values.Size(property);
            if (size == 0) return automatic;
            return size is >= 512 and <= 2 << 20 && BitOperations.IsPow2(size) ? (int)size
                : throw new ConfigurationException($"{values.Owner}: {property}={size} must be a power of 2 between " +
                "512 and 2097152");
        }

        uint IoSize(string property)
        {
            ulong size = values.Size(property);
            return size % (ulong)logical == 0 && size / (ulong)logical <= ushort.MaxValue ? (uint)size
                : throw new ConfigurationException($"{values.Owner}: {property}={size} must be a multiple of " +
                $"{logical}, at most 65535 blocks");
        }
    }
}
