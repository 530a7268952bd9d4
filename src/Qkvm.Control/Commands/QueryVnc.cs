using System.Text.Json.Serialization;
using Qkvm.Core.Display;

namespace Qkvm.Control.Commands;

/// <param name="Vencrypt">What lies inside that: "x509-none" …</param>
public sealed record VncServerPoint(string Host, string Service, string Family, bool Websocket, string Auth,
    string? Vencrypt = null);

public sealed record VncClientPoint(string Host, string Service, string Family, bool Websocket);

/// <summary>query-vnc: the first server; all but Enabled absent where there is none.</summary>
public sealed record VncInfo(bool Enabled, string? Host = null, string? Service = null, string? Family = null,
    string? Auth = null,
    IReadOnlyList<VncClientPoint>? Clients = null);

/// <summary>query-vnc-servers.</summary>
public sealed record VncServerInfo(string Id, string Auth, IReadOnlyList<VncServerPoint> Server,
    IReadOnlyList<VncClientPoint> Clients, string? Vencrypt = null);

static class QueryVnc
{
    public static readonly Command Command = new Command<Nothing, VncInfo>("query-vnc", VncJson.Default, (context, _) =>
    {
        if (context.Backends.RemoteDisplays.FirstOrDefault()?.Query() is not { } first) return new VncInfo(false);
        EndPointInfo at = first.Servers[0];
        return new VncInfo(true, at.Host, at.Service, at.Family, first.Auth.FullName, Describe(first).Clients);
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
                    monitor.Write($"  Server: {s.Host}:{s.Service} ({Family(s.Family, s.Websocket)})\n"
                        + $"    Auth: {s.Auth} (Sub: {s.Vencrypt ?? "none"})\n");
                foreach (VncClientPoint c in server.Clients)
                    monitor.Write($"  Client: {c.Host}:{c.Service} ({Family(c.Family, c.Websocket)})\n"
                        + "    x509_dname: none\n    sasl_username: none\n");
            }
        }),
    };

    static string Family(string family, bool isWeb) => isWeb ? $"{family} (Websocket)" : family;

    static IReadOnlyList<VncServerInfo> All(CommandContext context) =>
        [.. context.Backends.RemoteDisplays.Select(d => Describe(d.Query()))];

    static VncServerInfo Describe(RemoteDisplayInfo display) => new(display.Id, display.Auth.Name,
        [.. display.Servers.Select(server => Describe(server,
            server.IsWebSocket ? display.Auth.Plain : display.Auth))],
        [.. display.Clients.Select(c => new VncClientPoint(c.Host, c.Service, c.Family, c.IsWebSocket))],
        display.Auth.SubName);

    static VncServerPoint Describe(EndPointInfo at, RemoteAuth auth) =>
        new(at.Host, at.Service, at.Family, at.IsWebSocket, auth.Name, auth.SubName);
}

[JsonSerializable(typeof(VncInfo))]
[JsonSerializable(typeof(IReadOnlyList<VncServerInfo>))]
sealed partial class VncJson : JsonSerializerContext;
