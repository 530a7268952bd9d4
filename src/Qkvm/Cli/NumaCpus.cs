using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>Which node each processor is of, as -numa node,cpus= and -numa cpu say.</summary>
sealed class NumaCpus(CpuTopology topology)
{
    readonly int?[] _nodes = new int?[topology.MaxCpus];
    bool _isGiven;

    /// <summary>Somebody has said that the node has processors.</summary>
    public bool Has(int node) => Array.IndexOf(_nodes, node) >= 0;

    /// <summary>cpus=0-3, several times or as a list.</summary>
    public void Take(Options options, int node)
    {
        foreach (string range in options.Texts("cpus").Concat(options.List("cpus")))
        {
            int dash = range.IndexOf('-');
            if (!int.TryParse(dash < 0 ? range : range[..dash], out int first) || first < 0
                || !int.TryParse(dash < 0 ? range : range[(dash + 1)..], out int last) || last < first)
                throw options.Error($"Parameter 'cpus' expects a number or a range such as 0-3, not '{range}'");
            for (int cpu = first; cpu <= last; cpu++)
            {
                if (cpu >= _nodes.Length)
                    throw options.Error($"CPU index ({cpu}) should be smaller than maxcpus ({_nodes.Length})");
                Assign(cpu, node, options);
            }
        }
    }

    /// <summary>socket-id=, die-id=, core-id= and thread-id=: all processors that they fit.</summary>
    public void TakePlaces(Options options, int node)
    {
        int? socket = Place("socket-id"), die = Place("die-id"), core = Place("core-id"), thread = Place("thread-id");
        if (die != null && topology.Dies == 1) throw options.Error("die-id is not supported");
        bool isFound = false;
        for (int cpu = 0; cpu < _nodes.Length; cpu++)
        {
            (int Socket, int Die, int Core, int Thread) place = topology.PlaceOf(cpu);
            if ((socket ?? place.Socket, die ?? place.Die, core ?? place.Core, thread ?? place.Thread) != place)
                continue;
            Assign(cpu, node, options);
            isFound = true;
        }
        if (!isFound) throw options.Error("no match found: there is no such processor");

        int? Place(string name) => options.Int(name, 0, int.MaxValue);
    }

    void Assign(int cpu, int node, Options options)
    {
        if (_nodes[cpu] is { } other && other != node)
            throw options.Error($"CPU is already assigned to node-id: {other}");
        _nodes[cpu] = node;
        _isGiven = true;
    }

    /// <summary>Where nobody says anything, sockets take turns; where somebody does, the rest is of node 0.</summary>
    public int[] Finish(int nodes, Action<string> warn)
    {
        if (!_isGiven)
            return [.. Enumerable.Range(0, _nodes.Length).Select(cpu => topology.PlaceOf(cpu).Socket % nodes)];
        int[] left = [.. Enumerable.Range(0, _nodes.Length).Where(cpu => _nodes[cpu] == null)];
        if (left.Length > 0)
        {
            warn($"CPU(s) not present in any NUMA nodes: {string.Join(", ", left.Select(Describe))}");
            warn("All CPU(s) up to maxcpus should be described in NUMA config, ability to start up with partial NUMA "
                + "mappings is obsoleted and will be removed in future");
        }
        return [.. _nodes.Select(node => node ?? 0)];
    }

    string Describe(int cpu)
    {
        (int socket, int die, int core, int thread) = topology.PlaceOf(cpu);
        return $"CPU {cpu} [socket-id: {socket}, {(topology.Dies > 1 ? $"die-id: {die}, " : "")}core-id: {core}, "
            + $"thread-id: {thread}]";
    }
}
