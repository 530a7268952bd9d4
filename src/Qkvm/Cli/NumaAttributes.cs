using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>-numa hmat-lb and hmat-cache: how fast memory is, and what caches it has.</summary>
sealed class NumaAttributes
{
    const ulong Megabyte = 1 << 20;
    const int MostLevels = 3;

    readonly SortedDictionary<(MemoryHierarchy Hierarchy, MemorySpeedKind Kind),
        List<(int Initiator, int Target, ulong Value)>> _speeds = [];
    readonly SortedDictionary<(int Node, int Level), MemorySideCache> _caches = [];

    public IReadOnlyList<MemorySpeed> Speeds =>
        [.. _speeds.Select(entry => new MemorySpeed(entry.Key.Hierarchy, entry.Key.Kind, entry.Value))];
    public IReadOnlyList<MemorySideCache> Caches => [.. _caches.Values];

    /// <param name="nodes">That there are so far.</param>
    public void TakeSpeed(Options options, int nodes, NumaCpus cpus)
    {
        int initiator = Required(options, "initiator", ushort.MaxValue), target = Required(options, "target",
            ushort.MaxValue);
        var hierarchy = Named<MemoryHierarchy>(options, "hierarchy");
        var kind = Named<MemorySpeedKind>(options, "data-type");
        if (initiator >= nodes || !cpus.Has(initiator))
            throw options.Error($"Invalid initiator={initiator}, it isn't an initiator proximity domain: give its node "
                + "cpus= first");
        if (target >= nodes) throw options.Error($"The target={target} should point to an existing node");
        bool isLatency = kind < MemorySpeedKind.AccessBandwidth;
        (string name, string other) = isLatency ? ("latency", "bandwidth") : ("bandwidth", "latency");
        ulong value = (ulong?)(isLatency ? options.Number(name, 0, long.MaxValue / 1000) : options.Size(name))
            ?? throw options.Error($"Missing '{name}' option");
        if (options.Has(other)) throw options.Error($"Invalid option '{other}' since the data type is {name}");
        if (!isLatency && value % Megabyte != 0)
            throw options.Error($"Bandwidth {value} between initiator={initiator} and target={target} should be 1MB "
                + "aligned");
        if (!_speeds.TryGetValue((hierarchy, kind), out var values)) _speeds[(hierarchy, kind)] = values = [];
        if (values.Any(one => one.Initiator == initiator && one.Target == target))
            throw options.Error($"Duplicate configuration of the {name} for initiator={initiator} and target={target}");
        values.Add((initiator, target, value));
        ulong unit = new MemorySpeed(hierarchy, kind, values).Unit;
        if (values.Any(one => one.Value / unit > MemorySpeed.MostUnits))
            throw options.Error($"{(isLatency ? "Latency" : "Bandwidth")} {value} between initiator={initiator} and "
                + $"target={target} should not differ from previously entered values on more than "
                + $"{MemorySpeed.MostUnits}");
    }

    /// <param name="nodes">That there are so far.</param>
    public void TakeCache(Options options, int nodes)
    {
        int node = Required(options, "node-id", int.MaxValue);
        options.Required("size");
        ulong size = (ulong)options.Size("size")!.Value;
        int level = Required(options, "level", byte.MaxValue);
        var associativity = Named<CacheAssociativity>(options, "associativity");
        var policy = Named<CacheWritePolicy>(options, "policy");
        ushort line = (ushort)Required(options, "line", ushort.MaxValue);
        if (node >= nodes) throw options.Error($"Invalid node-id={node}, it should be less than {nodes}");
        if (!IsTold(MemorySpeedKind.AccessLatency) || !IsTold(MemorySpeedKind.AccessBandwidth))
            throw options.Error($"The latency and bandwidth information of node-id={node} should be provided before "
                + "memory side cache attributes");
        if (level is < 1 or > MostLevels)
            throw options.Error($"Invalid level={level}, it should be larger than 0 and less than or equal to "
                + $"{MostLevels}");
        if (_caches.ContainsKey((node, level)))
            throw options.Error($"Duplicate configuration of the side cache for node-id={node} and level={level}");
        if (level > 1)
        {
            if (!_caches.TryGetValue((node, level - 1), out MemorySideCache? below))
                throw options.Error($"Cache level={level - 1} shall be defined first");
            if (size <= below.Size)
                throw options.Error($"Invalid size={size}, the size of level={level} should be larger than the "
                    + $"size({below.Size}) of level={level - 1}");
        }
        _caches[(node, level)] = new MemorySideCache(node, level, size, associativity, policy, line);

        bool IsTold(MemorySpeedKind kind) => _speeds.TryGetValue((MemoryHierarchy.Memory, kind), out var values)
            && values.Any(one => one.Target == node);
    }

    static int Required(Options options, string name, int max)
    {
        options.Required(name);
        return options.Int(name, 0, max)!.Value;
    }

    static T Named<T>(Options options, string name) where T : struct, Enum
    {
        options.Required(name);
        return Expander.OneOf(options, name, default(T));
    }
}
