using Qkvm.Core.Devices;
using Qkvm.Core.Net;

namespace Qkvm.Control.Commands;

/// <summary>info network, as QEMU writes it: hubs, netdevs without a card, cards with their netdevs.</summary>
static class Network
{
    public static readonly Command Command = new Command<Nothing, string>(null, null, (context, _) => Describe(context))
    {
        Human = new("info network", "", "show the network state", null, (monitor, text) => monitor.Write(text)),
    };

    /// <summary>All cards, with the names by which set_link knows them: an id, or the driver and a number.</summary>
    public static IEnumerable<(string Name, string Driver, INetCard Card)> CardsOf(CommandContext context)
    {
        var numbers = new Dictionary<string, int>();
        foreach ((_, QDevice device) in context.Devices)
        {
            if (device.Device?.Facet<INetCard>() is not { } card) continue;
            int number = numbers.GetValueOrDefault(device.Driver);
            numbers[device.Driver] = number + 1;
            yield return (device.Id ?? $"{device.Driver}.{number}", device.Driver, card);
        }
    }

    static string Describe(CommandContext context)
    {
        var text = new System.Text.StringBuilder();
        IReadOnlyDictionary<string, NetBackend> netdevs = context.Backends.Netdevs;
        (string Name, string Driver, INetCard Card)[] cards = [.. CardsOf(context)];
        IHubPort[] ports = [.. netdevs.Values.OfType<IHubPort>()];
        foreach (IGrouping<int, IHubPort> hub in ports.GroupBy(port => port.HubId))
        {
            text.Append($"hub {hub.Key}\n");
            foreach (IHubPort port in hub.Reverse())
            {
                string? what = port.NetdevId is { } id && netdevs.TryGetValue(id, out NetBackend? plugged)
                    ? Line(plugged) : null;
                foreach (var card in cards)
                    if (card.Card.Backend?.Id == port.Id) what = Line(card);
                text.Append($" \\ {port.Id}{(what == null ? "\n" : $": {what}")}");
            }
        }
        foreach (NetBackend netdev in netdevs.Values)
            if (netdev is not IHubPort && ports.All(port => port.NetdevId != netdev.Id)
                && cards.All(card => card.Card.Backend?.Id != netdev.Id)) text.Append(Line(netdev));
        foreach (var card in cards)
        {
            NetBackend? netdev = card.Card.Backend is { } backend ? netdevs.GetValueOrDefault(backend.Id) : null;
            if (netdev is IHubPort) continue;
            text.Append(Line(card));
            if (netdev != null) text.Append($" \\ {Line(netdev)}");
        }
        return text.ToString();
    }

    static string Line(NetBackend netdev)
    {
        string line = $"{netdev.Id}: {netdev.Description}\n";
        IReadOnlyList<INetFilter> filters = netdev.Link.Filters;
        return filters.Count == 0 ? line
            : $"{line}filters:\n{string.Concat(filters.Select(filter => $"  - {filter.Description}\n"))}";
    }

    static string Line((string Name, string Driver, INetCard Card) card)
    {
        ReadOnlySpan<byte> mac = card.Card.Mac;
        string address = string.Join(':', mac.ToArray().Select(part => $"{part:x2}"));
        return $"{card.Name}: index=0,type=nic,model={card.Driver},macaddr={address}\n";
    }
}
