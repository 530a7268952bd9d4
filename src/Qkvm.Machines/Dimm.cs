using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Machines;

/// <summary>pc-dimm: memory of an object in a slot of the board. Its contents are saved as RAM.</summary>
public class Dimm : IDimm
{
    public static readonly DeviceModel Model = new("pc-dimm", BusKind.None, Options, static (properties, site) =>
        new Dimm(properties, site, static memory => memory.Size)) { Description = "DIMM memory module" };

    private protected static Property[] Options =>
    [
        Property.Object("memdev", "what has the memory: -object memory-backend-ram,id=…"),
        Property.Number("addr", 0, help: "where the guest has it; 0 for where there is room"),
        Property.Automatic("slot", max: int.MaxValue, help: "of -m slots="),
        Property.Number("node", 0, help: "the NUMA node that it is of"),
    ];

    readonly Properties _properties;

    /// <param name="visible">Bytes of the memory that the guest has in its addresses.</param>
    private protected Dimm(Properties properties, DeviceSite site, Func<MemoryBackend, ulong> visible)
    {
        int nodes = Math.Max(site.Board.NumaNodes, 1);
        _properties = properties;
        Id = site.Id;
        Backend = properties.Text("memdev") ?? throw properties.Error("'memdev' property must be set");
        Memory = site.Object<MemoryBackend>(Backend, "memory");
        if (Memory.IsTaken) throw properties.Error($"can't use already busy memdev: {Backend}");
        ulong node = properties.Number("node");
        if (node >= (ulong)nodes)
            throw properties.Error($"'DIMM property node has value {node}' which exceeds the number of numa nodes: "
                + $"{nodes}");
        Node = (int)node;
        Region = MemoryRegion.OfRam(Backend, Memory.Ram, 0, visible(Memory));
    }

    public virtual string Name => Model.Name;
    public virtual string Kind => "dimm";
    public virtual string? WhyKept => null;
    public string? Id { get; }
    public ulong Address { get; internal set; }
    public ulong Size => Region.Size;
    public int Slot { get; internal set; }
    public int Node { get; }
    public string Backend { get; }
    public bool IsHotPlugged { get; internal set; }

    public MemoryBackend Memory { get; }
    internal MemoryRegion Region { get; }

    /// <summary>The address that the user wants, or 0.</summary>
    internal ulong WantedAddress => _properties.Number("addr");
    internal ulong? WantedSlot => _properties.NumberOrAuto("slot");

    internal ConfigurationException Error(string message) => _properties.Error(message);

    public void Reset() { }
    public void Exchange(StateStream state) { }
}
