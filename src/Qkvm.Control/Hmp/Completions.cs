using Qkvm.Control.Qom;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;

namespace Qkvm.Control.Hmp;

/// <summary>What may stand for a word that begins so; what does not begin so is left out by who asks.</summary>
public delegate IEnumerable<string> Completion(CommandContext context, string start);

/// <summary>The kinds of words that commands take.</summary>
static class Completions
{
    const int MostFiles = 500;

    public static readonly Completion Drives = static (context, _) => context.Backends.Drives.Keys;
    public static readonly Completion Nodes = static (context, _) => context.Host.Nodes.Select(node => node.NodeName);
    public static readonly Completion Chardevs = static (context, _) => context.Backends.Chardevs.Keys;
    public static readonly Completion Netdevs = static (context, _) => context.Backends.Netdevs.Keys;
    public static readonly Completion Objects = static (context, _) => context.Backends.Objects.Keys;

    public static readonly Completion Ringbufs = static (context, _) => context.Backends.Chardevs
        .Where(c => c.Value.Stream is Core.Char.IKeptOutput).Select(c => c.Key);

    /// <summary>What device_del takes.</summary>
    public static readonly Completion Devices = static (context, _) =>
        context.Devices.Select(d => d.Device.Id).OfType<string>();

    public static readonly Completion Links = static (context, _) => context.Backends.Netdevs.Keys
        .Concat(Commands.Network.CardsOf(context).Select(card => card.Name));

    public static readonly Completion OnOff = static (_, _) => ["on", "off"];

    public static readonly Completion Keys = static (_, start) =>
    {
        string before = start[..(start.LastIndexOf('-') + 1)];
        return Commands.KeyNames.All.Select(name => before + name);
    };

    public static readonly Completion Paths = static (context, start) =>
    {
        int slash = start.LastIndexOf('/');
        if (slash < 0) return ["/"];
        QomNode? node = QomTree.Root(context).Find(slash == 0 ? "/" : start[..slash], out _);
        return node == null ? [] : node.Children.Select(child => $"{start[..slash]}/{child.Key}");
    };

    /// <summary>Names of files and, with a slash behind them, of directories.</summary>
    public static readonly Completion Files = static (_, start) =>
    {
        string before = start[..(start.LastIndexOf('/') + 1)], begin = start[before.Length..];
        try
        {
            return [.. new DirectoryInfo(before.Length == 0 ? "." : before).EnumerateFileSystemInfos($"{begin}*")
                .Take(MostFiles).Select(file => $"{before}{file.Name}{(file is DirectoryInfo ? "/" : "")}")];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException) { return []; }
    };

    public static Completion Models(ModelKind kind) => (context, _) => context.Host.ModelsOf(kind).Select(m => m.Name);

    public static Completion Words(params string[] words) => (_, _) => words;
}
