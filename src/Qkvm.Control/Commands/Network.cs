namespace Qkvm.Control.Commands;

public sealed record NetdevInfo(string Id, string Description);

static class Network
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<NetdevInfo>>(null, null,
        (context, _) => [.. context.Backends.Netdevs.Select(n => new NetdevInfo(n.Key, n.Value.Description))])
    {
        Human = new("info network", "", "show the network state", null,
            (monitor, netdevs) => { foreach (NetdevInfo n in netdevs) monitor.Write($"{n.Id}: {n.Description}\n"); }),
    };
}
