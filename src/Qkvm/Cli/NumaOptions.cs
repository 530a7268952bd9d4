using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>-numa, read in its order once the machine's memory and processors are known.</summary>
/// <param name="config">With -m, -smp and -object.</param>
/// <param name="takesSizes">The machine takes mem=, and not memdev= alone.</param>
/// <param name="hasAttributes">-machine hmat=on.</param>
sealed class NumaOptions(MachineConfig config, bool takesSizes, bool hasAttributes, Action<string> warn)
{
    readonly NumaNode?[] _nodes = new NumaNode?[NumaConfig.MaxNodes];
    readonly NumaCpus _cpus = new(config.Topology);
    readonly Dictionary<(int From, int To), byte> _distances = [];
    readonly NumaAttributes _attributes = new();
    int _count;
    bool _hasSizes, _hasBackends;

    /// <exception cref="ConfigurationException">Names the option.</exception>
    public void Take(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "type");
        switch (options.Required("type"))
        {
            case "node": TakeNode(options); break;
            case "cpu": TakeCpu(options); break;
            case "dist": TakeDistance(options); break;
            case "hmat-lb":
                CheckAttributes(options);
                _attributes.TakeSpeed(options, _count, _cpus);
                break;
            case "hmat-cache":
                CheckAttributes(options);
                _attributes.TakeCache(options, _count);
                break;
            case var other: throw options.Error($"Parameter 'type' does not accept value '{other}'; one of node, cpu, "
                + "dist, hmat-lb and hmat-cache is expected");
        }
        options.Close();
    }

    /// <exception cref="ConfigurationException">Something is missing.</exception>
    public NumaConfig Finish()
    {
        if (_count == 0 && (config.Memory.Slots > 0 || config.Memory.MaxSize > config.Memory.Size))
            _nodes[_count++] = new NumaNode(config.Memory.Size);
        if (_count == 0) return new NumaConfig { HasAttributes = hasAttributes };
        int missing = Array.IndexOf(_nodes, null);
        if (missing >= 0 && missing < _count)
            throw Error($"Node ID missing: {missing}; give -numa node,nodeid={missing}");
        NumaNode[] nodes = [.. _nodes.Take(_count)!];
        ulong total = nodes.Aggregate(0UL, (sum, node) => sum + node.Size);
        if (total != config.Memory.Size)
            throw Error($"total memory for NUMA nodes (0x{total:x}) should equal RAM size (0x{config.Memory.Size:x}); "
                + $"give nodes {(takesSizes ? "mem= or " : "")}memdev= of so much memory");
        var numa = new NumaConfig
        {
            Nodes = nodes,
            CpuNodes = _cpus.Finish(_count, warn),
            Distances = FinishDistances(),
            HasAttributes = hasAttributes,
            Speeds = _attributes.Speeds,
            Caches = _attributes.Caches,
        };
        foreach (int initiator in nodes.Select(node => node.Initiator).OfType<int>())
            if (initiator >= _count)
                throw Error($"NUMA node {initiator} is missing, use '-numa node' option to declare it first");
        for (int i = 0; i < _count; i++)
            if (nodes[i].Initiator is { } initiator && !numa.CpuNodes.Contains(initiator))
                throw Error($"The initiator of NUMA node {i} is invalid: node {initiator} has no processors");
        return numa;
    }

    static ConfigurationException Error(string message) => new($"-numa: {message}");

    void CheckAttributes(Options options)
    {
        if (!hasAttributes)
            throw options.Error("ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine "
                + "hmat=on before using any of hmat specific options");
    }

    void TakeNode(Options options)
    {
        const ulong Megabyte = 1 << 20;
        int id = options.Int("nodeid", 0, ushort.MaxValue) ?? _count;
        if (id >= _nodes.Length || _count >= _nodes.Length)
            throw options.Error($"Max number of NUMA nodes reached: {NumaConfig.MaxNodes}");
        if (_nodes[id] != null) throw options.Error($"Duplicate NUMA nodeid: {id}");
        ulong? size = (ulong?)options.Size("mem", Megabyte);
        string? backend = options.Text("memdev");
        if (size != null && !takesSizes)
            throw options.Error("Parameter -numa node,mem is not supported by this machine type; use -numa node,memdev "
                + "instead");
        if ((_hasSizes |= size != null) & (_hasBackends |= backend != null))
            throw options.Error("numa configuration should use either mem= or memdev=, mixing both is not allowed");
        if (size != null)
            warn($"{options.Owner}: Parameter -numa node,mem is deprecated, use -numa node,memdev instead");
        int? initiator = TakeInitiator(options, id);
        _nodes[id] = new NumaNode(size ?? (backend == null ? 0 : SizeOf(backend, options)), backend, initiator);
        _count++;
        _cpus.Take(options, id);
    }

    int? TakeInitiator(Options options, int id)
    {
        if (options.Int("initiator", 0, ushort.MaxValue) is not { } initiator) return null;
        CheckAttributes(options);
        if (initiator >= NumaConfig.MaxNodes)
            throw options.Error($"The initiator id {initiator} expects an integer between 0 and "
                + $"{NumaConfig.MaxNodes - 1}");
        if (options.Has("cpus") && initiator != id)
            throw options.Error($"The initiator of CPU NUMA node {id} should be itself (got {initiator})");
        return initiator;
    }

    /// <summary>Of -object memory-backend-….</summary>
    ulong SizeOf(string id, Options options)
    {
        if (Array.Exists(_nodes, node => node?.Backend == id))
            throw options.Error($"memory backend {id} can't be used multiple times");
        ObjectConfig made = config.Objects.FirstOrDefault(made => made.Id == id
            && made.Type.StartsWith("memory-backend-", StringComparison.Ordinal))
            ?? throw options.Error($"memdev={id}: there is no such memory; give -object memory-backend-ram,id={id},"
                + "size=…");
        return (ulong?)made.Options.Size("size") ?? throw made.Options.Error("needs size=");
    }

    void TakeCpu(Options options)
    {
        int node = options.Int("node-id", 0, int.MaxValue) ?? throw options.Error("Missing mandatory node-id property");
        if (node >= _nodes.Length || _nodes[node] == null)
            throw options.Error($"Invalid node-id={node}, NUMA node must be defined with -numa node,nodeid=ID before "
                + "it's used with -numa cpu,node-id=ID");
        _cpus.TakePlaces(options, node);
    }

    void TakeDistance(Options options)
    {
        options.Required("src");
        options.Required("dst");
        options.Required("val");
        int from = options.Int("src", 0, _nodes.Length - 1)!.Value;
        int to = options.Int("dst", 0, _nodes.Length - 1)!.Value;
        int value = options.Int("val", 0, byte.MaxValue)!.Value;
        if (_nodes[from] == null || _nodes[to] == null)
            throw options.Error("Source/Destination NUMA node is missing. Please use '-numa node' option to declare it "
                + "first.");
        if (value < NumaConfig.LocalDistance)
            throw options.Error($"NUMA distance ({value}) is invalid, it shouldn't be less than "
                + $"{NumaConfig.LocalDistance}.");
        if (from == to && value != NumaConfig.LocalDistance)
            throw options.Error($"Local distance of node {from} should be {NumaConfig.LocalDistance}.");
        _distances[(from, to)] = (byte)value;
    }

    /// <summary>What is missing is as the other way round, unless somewhere both ways differ.</summary>
    byte[][] FinishDistances()
    {
        if (_distances.Count == 0) return [];
        (int, int)[] pairs = [.. Enumerable.Range(0, _count).SelectMany(from => Enumerable.Range(0, _count)
            .Where(to => to != from).Select(to => (from, to)))];
        foreach ((int from, int to) in pairs)
            if (!_distances.ContainsKey((from, to)) && !_distances.ContainsKey((to, from)))
                throw Error($"The distance between node {from} and {to} is missing, at least one distance value "
                    + "between each nodes should be provided.");
        bool isAsymmetrical = pairs.Any(pair => Distance(pair) is { } there && Distance(Back(pair)) is { } back
            && there != back);
        if (isAsymmetrical && !pairs.All(_distances.ContainsKey))
            throw Error("At least one asymmetrical pair of distances is given, please provide distances for both "
                + "directions of all node pairs.");
        return [.. Enumerable.Range(0, _count).Select(from => Enumerable.Range(0, _count).Select(to => from == to
            ? NumaConfig.LocalDistance : Distance((from, to)) ?? Distance((to, from))!.Value).ToArray())];

        byte? Distance((int, int) pair) => _distances.TryGetValue(pair, out byte value) ? value : null;

        static (int, int) Back((int From, int To) pair) => (pair.To, pair.From);
    }
}
