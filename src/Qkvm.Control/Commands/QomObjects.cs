using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qom;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Path">From the root, or the end of a path that no other object has.</param>
public sealed record QomPath(string Path);

public sealed record QomPropertyArguments(string Path, string Property);

public sealed record QomSetArguments(string Path, string Property, JsonElement Value);

/// <param name="Type">"child&lt;…&gt;" for an object below.</param>
public sealed record ObjectPropertyInfo(string Name, string Type)
{
    public string? Description { get; init; }
    public JsonNode? DefaultValue { get; init; }
}

public sealed record QomListGetArguments(IReadOnlyList<string> Paths);

/// <param name="Value">Absent where there is none now.</param>
public sealed record ObjectPropertyValue(string Name, string Type, JsonNode? Value);

public sealed record ObjectPropertiesValues(IReadOnlyList<ObjectPropertyValue> Properties);

/// <summary>qom-list, qom-get, qom-set: the machine as a tree of objects.</summary>
static class QomObjects
{
    public static readonly Command List = new Command<QomPath, IReadOnlyList<ObjectPropertyInfo>>("qom-list",
        QomJson.Default, static (context, arguments) => PropertiesOf(QomTree.Find(context, arguments.Path)))
    {
        Human = new("qom-list", "path", "list QOM properties",
            // the only path that there is without one
            words => words.HasMore ? new QomPath(words.Word()) : throw new MonitorException("/"),
            static (monitor, found) =>
            {
                foreach (ObjectPropertyInfo property in found.OrderBy(p => p.Name, StringComparer.Ordinal))
                    monitor.Write($"{property.Name} ({property.Type})\n");
            }),
        Completes = [Completions.Paths],
    };

    public static readonly Command ListGet = new Command<QomListGetArguments, IReadOnlyList<ObjectPropertiesValues>>(
        "qom-list-get", QomJson.Default, static (context, arguments) =>
            [.. arguments.Paths.Select(path => new ObjectPropertiesValues([.. QomTree.Find(context, path).Properties
                .Select(p => new ObjectPropertyValue(p.Name, p.Type, p.Get()))]))]);

    public static readonly Command Get = new Command<QomPropertyArguments, JsonNode>("qom-get", QomJson.Default,
        static (context, arguments) => Find(context, arguments.Path, arguments.Property).Get() ?? "")
    {
        Human = new("qom-get", "path property", "print QOM property",
            words => new QomPropertyArguments(words.Word(), words.Word()),
            static (monitor, value) => monitor.Write($"{value.ToJsonString()}\n")),
        Completes = [Completions.Paths],
    };

    public static readonly Command Set = new Command<QomSetArguments, Nothing>("qom-set", QomJson.Default,
        static (context, arguments) =>
        {
            QomProperty property = Find(context, arguments.Path, arguments.Property);
            if (property.Set == null) throw new CommandException($"Property '{property.Name}' is not writable");
            property.Set(arguments.Value);
            return Nothing.Value;
        })
    {
        Human = new("qom-set", "path property value", "set QOM property", static words =>
            new QomSetArguments(words.Word(), words.Word(), ValueOf(words.Word()))),
        Completes = [Completions.Paths],
    };

    public static readonly Command Tree = new HumanCommand("info qom-tree", "[path]", "show QOM composition tree",
        static (monitor, words) =>
        {
            string path = words.Optional() ?? "/machine";
            words.End();
            QomNode found = QomTree.Root(monitor.Context).Find(path, out bool isAmbiguous)
                ?? throw new MonitorException(isAmbiguous ? $"Path '{path}' is ambiguous."
                    : $"Path '{path}' could not be resolved.");
            WriteTree(monitor, path, found, 0);
        }) { Completes = [Completions.Paths] };

    static IReadOnlyList<ObjectPropertyInfo> PropertiesOf(QomNode node) =>
    [
        .. node.Properties.Select(p => new ObjectPropertyInfo(p.Name, p.Type)),
        .. node.Children.Select(child => new ObjectPropertyInfo(child.Key, $"child<{child.Value.Type}>")),
    ];

    static QomProperty Find(CommandContext context, string path, string name)
    {
        QomNode node = QomTree.Find(context, path);
        return node.Properties.FirstOrDefault(p => p.Name == name)
            ?? throw new CommandException($"Property '{node.Type}.{name}' not found");
    }

    static void WriteTree(IMonitor monitor, string name, QomNode node, int depth)
    {
        monitor.Write($"{new string(' ', depth * 2)}{(depth == 0 ? name : $"/{name}")} ({node.Type})\n");
        foreach ((string child, QomNode below) in node.Children.OrderBy(c => c.Key, StringComparer.Ordinal))
            WriteTree(monitor, child, below, depth + 1);
    }

    /// <summary>A number, true or false, else a text.</summary>
    static JsonElement ValueOf(string word)
    {
        string json = word is "true" or "false" || long.TryParse(word, out _) ? word
            : $"\"{JsonEncodedText.Encode(word)}\"";
        return JsonDocument.Parse(json).RootElement;
    }
}

[JsonSerializable(typeof(QomPath))]
[JsonSerializable(typeof(QomPropertyArguments))]
[JsonSerializable(typeof(QomSetArguments))]
[JsonSerializable(typeof(QomListGetArguments))]
[JsonSerializable(typeof(IReadOnlyList<ObjectPropertyInfo>))]
[JsonSerializable(typeof(IReadOnlyList<ObjectPropertiesValues>))]
[JsonSerializable(typeof(JsonNode))]
sealed partial class QomJson : JsonSerializerContext;
