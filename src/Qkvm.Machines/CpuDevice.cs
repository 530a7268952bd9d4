using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;

namespace Qkvm.Machines;

/// <summary>A processor that -device or device_add names by its place in the topology: qemu64-x86_64-cpu and so
/// on. Its state is the vCPU's.</summary>
public sealed class CpuDevice : ICpuDevice
{
    const string Socket = "socket-id", Die = "die-id", Core = "core-id", Thread = "thread-id",
        Node = "node-id";

    readonly Properties _properties;

    CpuDevice(string name, Properties properties) => (Name, _properties) = (name, properties);

    /// <param name="cpuModel">As -cpu names it.</param>
    public static DeviceModel Model(string cpuModel)
    {
        string name = TypeOf(cpuModel);
        return new(name, BusKind.None, [Place(Socket), Place(Die), Place(Core), Place(Thread),
            Property.Missing("apic-id"), Place(Node)],
            (properties, _) => new CpuDevice(name, properties)) { Category = DeviceCategory.Cpu };

        static Property Place(string name) => Property.Automatic(name, max: int.MaxValue);
    }

    /// <summary>The device that a processor of -cpu is.</summary>
    public static string TypeOf(string cpuModel) => $"{cpuModel}-x86_64-cpu";

    public string Name { get; }
    public int Index { get; private set; } = -1;

    public void Reset() { }
    public void Exchange(StateStream state) { }

    /// <summary>Finds its place.</summary>
    /// <exception cref="ConfigurationException">There is no such place, or it is not said which.</exception>
    internal void Place(MachineConfig config)
    {
        if (Name != TypeOf(config.Cpu.Model))
            throw _properties.Error($"Invalid CPU type, expected cpu type: '{TypeOf(config.Cpu.Model)}'");
        CpuTopology topology = config.Topology;
        int sockets = topology.MaxCpus / (topology.Dies * topology.Cores * topology.Threads);
        int socket = Within(Socket, sockets), die = Within(Die, topology.Dies, topology.Dies == 1 ? 0 : null);
        int core = Within(Core, topology.Cores), thread = Within(Thread, topology.Threads);
        Index = ((socket * topology.Dies + die) * topology.Cores + core) * topology.Threads + thread;
        if (_properties.NumberOrAuto(Node) is not { } node) return;
        int own = config.Numa.NodeOf(Index) ?? throw _properties.Error("node-id: this machine has no NUMA nodes; leave "
            + "it out");
        if (node != (ulong)own) throw _properties.Error($"invalid node-id, must be {own}");
    }

    internal ConfigurationException Taken(uint apicId) =>
        _properties.Error($"CPU[{Index}] with APIC ID {apicId} exists");

    int Within(string name, int count, int? otherwise = null)
    {
        int place = (int?)_properties.NumberOrAuto(name) ?? otherwise
            ?? throw _properties.Error($"CPU {name} is not set");
        return place < count ? place
            : throw _properties.Error($"Invalid CPU {name}: {place} must be in range 0:{count - 1}");
    }
}
