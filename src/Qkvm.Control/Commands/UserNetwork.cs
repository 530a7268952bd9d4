using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;

namespace Qkvm.Control.Commands;

/// <param name="Netdev">Null: the only one.</param>
public sealed record ForwardArguments(string? Netdev, string Rule);

/// <summary>hostfwd_add, hostfwd_remove and info usernet, which QMP does not have.</summary>
static class UserNetwork
{
    public static readonly Command Add = new Command<ForwardArguments, Nothing>(null, null, (context, arguments) =>
    {
        IUserNetwork network = Find(context, arguments.Netdev);
        try { network.AddForward(arguments.Rule); }
        catch (ConfigurationException e) { throw new MonitorException(e.Message); }
        return Nothing.Value;
    })
    {
        Human = new("hostfwd_add", "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
            "redirect TCP or UDP connections from host to guest (requires -net user)", Read),
    };

    public static readonly Command Remove = new Command<ForwardArguments, string>(null, null, (context, arguments) =>
    {
        IUserNetwork network = Find(context, arguments.Netdev);
        try
        {
            return network.RemoveForward(arguments.Rule) ? $"host forwarding rule for {arguments.Rule} removed\n"
                : $"host forwarding rule for {arguments.Rule} not found\n";
        }
        catch (FormatException) { throw new MonitorException("invalid format"); }
    })
    {
        Human = new("hostfwd_remove", "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
            "remove host-to-guest TCP or UDP redirection", Read, (monitor, said) => monitor.Write(said)),
    };

    public static readonly Command Connections = new Command<Nothing, IReadOnlyList<IUserNetwork>>(null, null,
        (context, _) => [.. All(context)])
    {
        Human = new("info usernet", "", "show user network stack connection states", null,
            (monitor, networks) => { foreach (IUserNetwork network in networks) Show(monitor, network); }),
    };

    static ForwardArguments Read(MonitorArguments words)
    {
        string first = words.Word();
        return words.Optional() is { } rule ? new(first, rule) : new(null, first);
    }

    static IEnumerable<IUserNetwork> All(CommandContext context) =>
        context.Backends.Netdevs.Values.OfType<IUserNetwork>();

    static IUserNetwork Find(CommandContext context, string? id) => All(context).FirstOrDefault(n => id == null
        || n.Id == id) ?? throw new MonitorException(id == null ? "user mode network stack not in use"
            : $"unrecognized netdev id '{id}'");

    /// <summary>QEMU's table; its first line names a hub even where there is none.</summary>
    static void Show(IMonitor monitor, IUserNetwork network)
    {
        monitor.Write($"Hub -1 ({network.Id}):\n");
        monitor.Write("  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n");
        foreach (UserConnection c in network.Connections)
        {
            string port = c.DestinationPort is { } number ? $"{number,5}" : "  -  ";
            string head = $"  {c.Protocol.ToString().ToUpperInvariant()}[{c.State}]";
            monitor.Write($"{head,-19} {c.Fd,3} {c.Source,15} {c.SourcePort,5} {c.Destination,15} {port} "
                + $"{c.ToHost,5} {c.ToGuest,5}\n");
        }
    }
}
