using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;
using Qkvm.Host.Sockets;

namespace Qkvm.Control.Commands;

/// <param name="Addr">{"type": "inet", "data": {"host": "0.0.0.0", "port": "10809"}}, or of a "unix" socket its
/// path.</param>
/// <param name="TlsCreds">The id of a tls-creds-x509 object with endpoint=server.</param>
/// <param name="MaxConnections">0 for any number.</param>
public sealed record NbdServerStartArguments(JsonElement Addr, string? TlsCreds = null, string? TlsAuthz = null,
    uint MaxConnections = 0);

/// <summary>nbd-server-start and nbd-server-stop: the server of the machine's exports.</summary>
static class NbdServerCommands
{
    public static readonly Command Start = new Command<NbdServerStartArguments, Nothing>("nbd-server-start",
        NbdServerJson.Default, static (context, arguments) =>
        {
            if (arguments.TlsAuthz != null)
                throw new CommandException("tls-authz is not built yet; all whom the authority has signed are let in");
            Options options = Options.From(arguments.Addr, "addr");
            context.Host.Exports.StartServer(AddressOf(options), arguments.TlsCreds,
                (int)Math.Min(arguments.MaxConnections, int.MaxValue));
            return Nothing.Value;
        });

    public static readonly Command Stop = new Command<Nothing, Nothing>("nbd-server-stop", NbdServerJson.Default,
        static async (context, _) =>
        {
            await StopAsync(context).ConfigureAwait(false);
            return Nothing.Value;
        })
    {
        Human = new("nbd_server_stop", "", "stop serving block devices using the NBD protocol", null),
    };

    /// <summary>All removals begin at once: one that has begun may end while another is waited for.</summary>
    static Task StopAsync(CommandContext context)
    {
        IBlockExports exports = context.Host.Exports;
        exports.StopServer();
        return Task.WhenAll(exports.All.Select(one => BlockExportCommands.RemoveAsync(context, one.Id, hard: true)
            .AsTask()));
    }

    static SocketAddress AddressOf(Options options)
    {
        string type = options.Text("type") ?? throw new CommandException("Parameter 'addr.type' is missing");
        Options data = options.Nested("data") ?? throw new CommandException("Parameter 'addr.data' is missing");
        SocketAddress address = type switch
        {
            "inet" => new InternetAddress(Required(data, "host"), PortOf(Required(data, "port")),
                data.Text("to") is { } last ? PortOf(last) : null, data.Bool("ipv4"), data.Bool("ipv6")),
            "unix" => new UnixAddress(Required(data, "path"), data.Bool("abstract") ?? false,
                data.Bool("tight") ?? true),
            "vsock" => new VsockAddress(NumberOf(Required(data, "cid")), NumberOf(Required(data, "port"))),
            _ => throw new CommandException($"Parameter 'addr.type' does not accept value '{type}'"),
        };
        options.Close();
        return address;
    }

    static string Required(Options data, string name) =>
        data.Text(name) ?? throw new CommandException($"Parameter 'addr.data.{name}' is missing");

    internal static int PortOf(string text) => NumberOf(text) is var port and <= ushort.MaxValue ? (int)port
        : throw new CommandException($"port '{text}' is not a number from 0 to 65535");

    static uint NumberOf(string text) => uint.TryParse(text, out uint number) ? number
        : throw new CommandException($"'{text}' is not a number");

    public static readonly Command HumanStartCommand = new Command<NbdServerHumanArguments, Nothing>(null, null,
        static async (context, arguments) =>
        {
            if (arguments is { IsWritable: true, All: false })
                throw new MonitorException("-w only valid together with -a");
            IBlockExports exports = context.Host.Exports;
            exports.StartServer(HumanAddress(arguments.Where), null, 0);
            if (!arguments.All) return Nothing.Value;
            foreach ((string id, BlockBackend drive) in context.Backends.Drives.ToArray())
            {
                if (drive.Root is not { } root) continue;
                try
                {
                    exports.Add(new BlockExportOptions(id, id, id, arguments.IsWritable && !root.IsReadOnly));
                }
                catch (Exception e) when (e is CommandException or ConfigurationException)
                {
                    await StopAsync(context).ConfigureAwait(false);
                    throw new MonitorException(e.Message);
                }
            }
            return Nothing.Value;
        })
    {
        Human = new("nbd_server_start", "[-a] [-w] host:port", "serve block devices on the given host and port",
            static words =>
            {
                bool all = false, isWritable = false;
                while (words.Flags("aw") is { Length: > 0 } flags)
                {
                    all |= flags.Contains('a');
                    isWritable |= flags.Contains('w');
                }
                return new NbdServerHumanArguments(all, isWritable, words.Word());
            }),
    };

    static SocketAddress HumanAddress(string text)
    {
        if (text.StartsWith("unix:", StringComparison.Ordinal)) return new UnixAddress(text["unix:".Length..]);
        if (text.StartsWith("tcp:", StringComparison.Ordinal)) text = text["tcp:".Length..];
        int colon = text.LastIndexOf(':');
        return colon >= 0 ? new InternetAddress(text[..colon].Trim('[', ']'), PortOf(text[(colon + 1)..]))
            : throw new CommandException($"error parsing address '{text}'");
    }
}

public sealed record NbdServerHumanArguments(bool All, bool IsWritable, string Where);

[JsonSerializable(typeof(NbdServerStartArguments))]
sealed partial class NbdServerJson : JsonSerializerContext;
