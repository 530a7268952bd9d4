using System.Text.Json.Serialization;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;

namespace Qkvm.Control.Commands;

/// <param name="Name">Of a card, as `info network` shows it; null: all that can tell.</param>
public sealed record RxFilterArguments(string? Name = null);

/// <summary>As <see cref="ReceiveFilter"/>, with the card's name.</summary>
public sealed record RxFilterInfo(string Name, bool Promiscuous, FilterState Multicast, FilterState Unicast,
    FilterState Vlan, bool BroadcastAllowed, bool MulticastOverflow, bool UnicastOverflow, string MainMac,
    IReadOnlyList<int> VlanTable, IReadOnlyList<string> UnicastTable, IReadOnlyList<string> MulticastTable)
{
    public RxFilterInfo(string name, ReceiveFilter filter)
        : this(name, filter.Promiscuous, filter.Multicast, filter.Unicast, filter.Vlan, filter.BroadcastAllowed,
            filter.MulticastOverflow, filter.UnicastOverflow, filter.MainMac, filter.VlanTable, filter.UnicastTable,
            filter.MulticastTable) { }
}

/// <summary>query-rx-filter: what cards let through. Who asks hears of the next change
/// (NIC_RX_FILTER_CHANGED).</summary>
static class QueryRxFilter
{
    public static readonly Command Command = new Command<RxFilterArguments, IReadOnlyList<RxFilterInfo>>(
        "query-rx-filter", RxFilterJson.Default, (context, arguments) =>
    {
        var found = new List<RxFilterInfo>();
        bool isKnown = arguments.Name == null;
        foreach ((string name, _, INetCard card) in Network.CardsOf(context))
        {
            if (arguments.Name != null && name != arguments.Name) continue;
            isKnown = true;
            if (card.QueryFilter() is { } filter) found.Add(new RxFilterInfo(name, filter));
            else if (arguments.Name != null)
                throw new CommandException($"net client({name}) doesn't support rx-filter querying");
        }
        if (isKnown) return found;
        throw new CommandException(context.Backends.Netdevs.ContainsKey(arguments.Name!)
            ? $"net client({arguments.Name}) isn't a NIC" : $"invalid net client name: {arguments.Name}");
    });
}

[JsonSerializable(typeof(RxFilterArguments))]
[JsonSerializable(typeof(IReadOnlyList<RxFilterInfo>))]
sealed partial class RxFilterJson : JsonSerializerContext;
