using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>policy= and host-nodes= of memory: which NUMA nodes of the host it lies on.</summary>
static class MemoryPolicy
{
    /// <summary>What to do where the host refuses.</summary>
    public const string Cure = "; give host-nodes that this host has (/sys/devices/system/node), or leave policy= out";

    const int MostNodes = 128;

    /// <exception cref="ConfigurationException">One without the other.</exception>
    public static (HostPolicy Policy, IReadOnlyList<int> Nodes) Of(Properties properties)
    {
        string policy = properties.Required("policy");
        int[] nodes =
            [.. properties.Texts("host-nodes").SelectMany(range => NodesOf(range, properties)).Distinct().Order()];
        HostPolicy wanted = Enum.Parse<HostPolicy>(policy, ignoreCase: true);
        if (wanted == HostPolicy.Default && nodes.Length > 0)
            throw properties.Error("host-nodes must be empty for policy default, or you should explicitly specify a "
                + "policy other than default");
        return wanted == HostPolicy.Default || nodes.Length > 0 ? (wanted, nodes)
            : throw properties.Error($"host-nodes must be set for policy {policy}");
    }

    static IEnumerable<int> NodesOf(string range, Properties properties)
    {
        int dash = range.IndexOf('-');
        if (!int.TryParse(dash < 0 ? range : range[..dash], out int first) || first < 0
            || !int.TryParse(dash < 0 ? range : range[(dash + 1)..], out int last) || last < first)
            throw properties.Error($"host-nodes={range}: expects a number or a range such as 0-3");
        return last < MostNodes ? Enumerable.Range(first, last - first + 1)
            : throw properties.Error($"Invalid host-nodes value: {last}");
    }
}
