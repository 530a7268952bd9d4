using System.Text.Json.Serialization;
using Qkvm.Core.Display;

namespace Qkvm.Control.Commands;

public sealed record VncServerPoint(string Host, string Service, string Family, bool Websocket, string Auth);

public sealed record VncClientPoint(string Host, string Service, string Family, bool Websocket);

/// <summary>query-vnc: the first server; all but Enabled absent where there is none.</summary>
public sealed record VncInfo(bool Enabled, string? Host = null, string? Service = null, string? Family = null,
    string? Auth = null,
    IReadOnlyList<VncClientPoint>? Clients = null);

/// <summary>query-vnc-servers.</summary>
public sealed record VncServerInfo(string Id, string Auth, IReadOnlyList<VncServerPoint> Server,
    IReadOnlyList<VncClientPoint> Clients);

static class QueryVnc
{
    public static readonly Command Command = new Command<Nothing, VncInfo>("query-vnc", VncJson.Default, (context, _) =>
    {
        if (All(context).FirstOrDefault() is not { } first) return new VncInfo(false);
        VncServerPoint at = first.Server[0];
        return new VncInfo(true, at.Host, at.Service, at.Family, first.Auth, first.Clients);
    });

    public static readonly Command Servers = new Command<Nothing,
        IReadOnlyList<VncServerInfo>>("query-vnc-servers", VncJson.Default, (context, _) => All(context))
    {
        Human = new("info vnc", "", "show the vnc server status", null, (monitor, servers) =>
        {
            if (servers.Count == 0) monitor.Write("None\n");
            foreach (VncServerInfo server in servers)
            {
                monitor.Write($"{server.Id}:\n");
                foreach (VncServerPoint s in server.Server)
                    monitor.Write($"  Server: {s.Host}:{s.Service} ({s.Family})\n    Auth: {s.Auth} (Sub: none)\n");
                foreach (VncClientPoint c in server.Clients)
                    monitor.Write($"  Client: {c.Host}:{c.Service} ({c.Family})\n    x509_dname: none\n    " +
                        "sasl_username: none\n");
            }
        }),
    };

    static IReadOnlyList<VncServerInfo> All(CommandContext context) =>
        [.. context.Backends.RemoteDisplays.Select(d => Describe(d.Query()))];

    static VncServerInfo Describe(RemoteDisplayInfo display) => new(display.Id, display.Auth,
        [.. display.Servers.Select(s => new VncServerPoint(s.Host, s.Service, s.Family, false, display.Auth))],
        [.. display.Clients.Select(c => new VncClientPoint(c.Host, c.Service, c.Family, false))]);
}

[JsonSerializable(typeof(VncInfo))]
[JsonSerializable(typeof(IReadOnlyList<VncServerInfo>))]
sealed partial class VncJson : JsonSerializerContext;
