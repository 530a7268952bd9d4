using System.Text.Json.Serialization;
using Qkvm.Control;

namespace Qkvm.Tests.Extending;

/// <param name="Sockets">Of the machine.</param>
/// <param name="Cores">Of a socket.</param>
public sealed record TopologyInfo(int Sockets, int Cores);

/// <summary>query-topology, and info topology on the human monitor.</summary>
static class QueryTopology
{
    public static readonly Command Command = new Command<Nothing, TopologyInfo>("query-topology", TopologyJson.Default,
        (context, _) =>
            new TopologyInfo(context.Machine.Config.Topology.Sockets, context.Machine.Config.Topology.Cores))
    {
        Human = new("info topology", "", "show sockets and cores", null,
            (monitor, info) => monitor.Write($"{info.Sockets} sockets of {info.Cores} cores\n")),
    };
}

[JsonSerializable(typeof(TopologyInfo))]
sealed partial class TopologyJson : JsonSerializerContext;
