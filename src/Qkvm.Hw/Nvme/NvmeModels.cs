using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Nvme;

/// <summary>A namespace on the bus of a controller.</summary>
public sealed class NvmeNamespaceDevice : IDevice
{
    internal NvmeNamespaceDevice(NvmeNamespace own) => Namespace = own;

    internal NvmeNamespace Namespace { get; }
    public string Name => NvmeModels.Namespace.Name;

    /// <summary>The controller has all its state.</summary>
    public void Reset() { }
    public void Exchange(StateStream state) { }
}

/// <summary>Controllers and namespaces as users name them.</summary>
public static class NvmeModels
{
    const int MostQueues = 65535, MostVectors = 2048, MostTransfer = 16, SerialLength = 20;

    static readonly Property[] s_disk =
    [
        .. DiskProperties.All.Where(p => p.Name != "serial"), Property.Size("logical_block_size", 0),
        Property.Size("physical_block_size", 0),
    ];

    public static readonly DeviceModel Controller = new("nvme", BusKind.Pci,
        [
            .. s_disk, Property.Text("serial", help: "the guest sees its first 20 letters"),
            Property.Number("max_ioqpairs", 64, help: "queues, beside the admin queues"),
            Property.Number("msix_qsize", 65), Property.Number("aerl", 3, max: byte.MaxValue,
                help: "one less than the events that may be asked for"),
            Property.Number("mdts", 7, max: MostTransfer, help: "2^N pages of 4 KiB in one command; 0: any number"),
            Property.Missing("subsys", remedy: "each controller is a subsystem of its own"),
            Property.Missing("cmb_size_mb", "0"), Property.Missing("pmrdev"), Property.Missing("sriov_max_vfs", "0"),
            Property.Missing("use-intel-id", "off"), Property.Missing("num_queues", "0", "use max_ioqpairs="),
        ], CreateController) { Category = DeviceCategory.Storage, Description = "Non-Volatile Memory Express" };

    public static readonly DeviceModel Namespace = new("nvme-ns", BusKind.Nvme,
        [
            .. s_disk, Property.Number("nsid", 0, help: "its number; 0: the first that is free"),
            Property.Text("uuid", "auto"), Property.Number("eui64", 0),
            Property.Missing("zoned", "off"), Property.Missing("detached", "off"), Property.Missing("ms", "0"),
            Property.Missing("pi", "0"),
        ], CreateNamespace)
    {
        Category = DeviceCategory.Storage,
        Description = "Virtual NVMe namespace",
        IsHotPluggable = false,
    };

    static Nvme CreateController(Properties values, DeviceSite site)
    {
        string serial = values.Text("serial") is { Length: > 0 } given ? given
            : throw values.Error($"serial property not set; give serial= of 1 to {SerialLength} letters");
        ulong queues = values.Number("max_ioqpairs"), vectors = values.Number("msix_qsize");
        if (queues is 0 or > MostQueues) throw values.Error($"max_ioqpairs must be between 1 and {MostQueues}");
        if (vectors is 0 or > MostVectors) throw values.Error($"msix_qsize must be between 1 and {MostVectors}");
        bool isExpress = site.Bus.Wires is PciBus { IsExpress: true };
        MachineLog? log = site.Board.Memory.Log;
        var controller = new Nvme(Controller.Name, new NvmeOptions(serial, (int)queues, (int)vectors,
            (int)values.Number("mdts"), (int)values.Number("aerl"), isExpress,
            isExpress && site.Bus.Wires is PciBus { Bridge: null }), site.Board.Post)
        {
            Log = log == null ? null : reason =>
            {
                if (log.Has(LogItem.GuestErrors)) log.GuestError(Controller.Name, $"{Controller.Name}: {reason}");
            },
        };
        site.AddBus(new QBus(site.Id ?? site.NameBus(BusKind.Nvme), BusKind.Nvme, new NvmeBus(controller)));
        if (values.Text("drive") is { } id)
            controller.Add(MakeNamespace(values, site, id, Guid.Empty, 0), id: 1);
        return controller;
    }

    static NvmeNamespaceDevice CreateNamespace(Properties values, DeviceSite site)
    {
        if (values.Text("drive") is not { } id)
            throw values.Error("block backend not configured; give drive=ID of a -drive if=none,id=ID,… or "
                + "-blockdev");
        string text = values.Text("uuid")!;
        Guid uuid = text == Property.Auto ? Guid.NewGuid() : Guid.TryParse(text, out Guid given) ? given
            : throw values.Error($"uuid={text}: expects a UUID, or auto");
        return new NvmeNamespaceDevice(MakeNamespace(values, site, id, uuid, values.Number("eui64")));
    }

    static NvmeNamespace MakeNamespace(Properties values, DeviceSite site, string id, Guid uuid, ulong eui64)
    {
        BlockBackend backend = DiskProperties.Take(values, site, id);
        if (!backend.HasMedium)
            throw values.Error($"could not get blockdev size: No medium found; give drive '{id}' file=");
        ulong logical = Size("logical_block_size", 512), physical = Size("physical_block_size", logical);
        if (physical < logical) throw values.Error("logical_block_size > physical_block_size not supported");
        return new NvmeNamespace(backend, (int)logical, uuid, eui64);

        ulong Size(string name, ulong automatic)
        {
            ulong size = values.Size(name);
            if (size == 0) return automatic;
            return size is >= 512 and <= 32768 && BitOperations.IsPow2(size) ? size
                : throw values.Error($"{name}={size} must be a power of 2 between 512 and 32768");
        }
    }

    /// <summary>The controller's bus "nvme0" of namespaces.</summary>
    sealed class NvmeBus(Nvme controller) : IBusWires
    {
        public bool IsFull => false;
        public bool TakesHotPlug => false;

        public void Plug(IDevice device, Properties properties, DeviceSite site)
        {
            ulong id = properties.Number("nsid");
            if (id > Nvme.MostNamespaces)
                throw properties.Error($"invalid namespace id (must be between 0 and {Nvme.MostNamespaces})");
            if (id != 0 && controller.Find((uint)id) != null)
                throw properties.Error($"namespace id '{id}' already allocated");
            controller.Add(((NvmeNamespaceDevice)device).Namespace, (int)id);
        }

        public string PathOf(IDevice device) => $"namespace@{((NvmeNamespaceDevice)device).Namespace.Id:x},0";
    }
}
