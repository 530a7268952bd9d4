using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Schema;

/// <summary>Describes all commands and events by the records that implement them, and the options of the catalogues by
/// their models: what is not real is not there.</summary>
/// <param name="json">Knows the records.</param>
/// <param name="models">Of each kind: those that can be made.</param>
sealed class SchemaBuilder(JsonSerializerOptions json, Func<ModelKind, IReadOnlyList<Model>> models)
{
    readonly List<SchemaInfo> _types = [];
    readonly Dictionary<object, string> _names = [];

    public IReadOnlyList<SchemaInfo> Build(IEnumerable<Command> commands, IEnumerable<EventInfo> events)
    {
        var entries = new List<SchemaInfo>();
        foreach (Command command in commands)
            if (command is { Name: { } name, Arguments: { } arguments, Result: { } result })
                entries.Add(new SchemaInfo(name, "command")
                {
                    ArgType = command switch
                    {
                        { Models: { } kind, ModelsIn: { } items } => WithUnions(arguments, items, kind),
                        { Models: { } kind } => Union(arguments, kind),
                        _ => Named(arguments),
                    },
                    RetType = Named(result),
                    AllowOob = command.AllowsOutOfBand,
                });
        foreach (EventInfo happens in events)
            entries.Add(new SchemaInfo(happens.Name, "event") { ArgType = Named(happens.Type) });
        return [.. entries, .. _types];
    }

    /// <summary>The name of a type's entry, which is made the first time.</summary>
    string Named(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type == typeof(string)) return Builtin("str", "string");
        if (type == typeof(bool)) return Builtin("bool", "boolean");
        if (type == typeof(double) || type == typeof(float)) return Builtin("number", "number");
        if (type.IsPrimitive) return Builtin("int", "int");
        if (type.IsEnum)
            return Entry(type, name => new SchemaInfo(name, "enum")
            {
                Values = [.. Enum.GetNames(type).Select(JsonNamingPolicy.KebabCaseLower.ConvertName)],
            });
        JsonTypeInfo info = json.GetTypeInfo(type);
        if (info.Kind == JsonTypeInfoKind.Enumerable) return ArrayOf(Named(info.ElementType!));
        if (info.Kind != JsonTypeInfoKind.Object) return Builtin("any", "value");
        return Entry(type, name => new SchemaInfo(name, "object") { Members = MembersOf(info) });
    }

    SchemaMember[] MembersOf(JsonTypeInfo info) =>
        [.. info.Properties.Where(p => p.Get != null).Select(p => new SchemaMember(p.Name, Named(p.PropertyType),
            p.IsGetNullable || (p.AssociatedParameter is { HasDefaultValue: true })))];

    /// <summary>An object with a list of such objects as <see cref="Union"/> makes.</summary>
    string WithUnions(Type arguments, (string Argument, Type Item) items, ModelKind kind) =>
        Entry(arguments, name => new SchemaInfo(name, "object")
        {
            Members = [.. MembersOf(json.GetTypeInfo(arguments)).Select(member => member.Name != items.Argument ? member
                : member with { Type = ArrayOf(Union(items.Item, kind)) })],
        });

    /// <summary>An object whose other members depend on the name of a model: its options.</summary>
    string Union(Type arguments, ModelKind kind)
    {
        bool isNested = kind == ModelKind.Chardev;
        (string tag, string body) = kind switch
        {
            ModelKind.Netdev => ("type", ""),
            ModelKind.Object => ("qom-type", ""),
            ModelKind.BlockDriver => ("driver", ""),
            _ => ("type", "data"),
        };
        var variants = new List<SchemaVariant>();
        foreach (Model model in models(kind))
        {
            string options = Entry(model, name => new SchemaInfo(name, "object") { Members = MembersOf(model) });
            if (isNested) options = Entry((model, body), name => new SchemaInfo(name, "object")
                { Members = [new SchemaMember(body, options, false)] });
            variants.Add(new SchemaVariant(model.Name, options));
        }
        string tags = Entry(kind, name => new SchemaInfo(name, "enum") { Values = [.. variants.Select(v => v.Case)] });
        SchemaInfo Tagged(string name, IEnumerable<SchemaMember> others) => new(name, "object")
            { Members = [new SchemaMember(tag, tags, false), .. others], Tag = tag, Variants = variants };
        JsonTypeInfo info = json.GetTypeInfo(arguments);
        if (!isNested)
            return Entry(arguments, name => Tagged(name, MembersOf(info).Where(member => member.Name != tag)));
        string backend = Entry((kind, body), name => Tagged(name, []));
        return Entry(arguments, name => new SchemaInfo(name, "object")
            { Members = [new SchemaMember("id", Named(typeof(string)), false),
                new SchemaMember("backend", backend, false)] });
    }

    SchemaMember[] MembersOf(Model model) => [.. model.Properties
        .Where(p => p is { Remedy: null, Name: not ("id" or "driver" or "node-name") })
        .Select(p => new SchemaMember(p.Name, TypeOf(p), true))];

    string TypeOf(Property property) => property.Kind switch
    {
        PropertyKind.Number or PropertyKind.Size => Named(typeof(long)),
        PropertyKind.Bool or PropertyKind.OnOffAuto => Named(typeof(bool)),
        PropertyKind.Enum => Entry(property, name => new SchemaInfo(name, "enum") { Values = property.Values }),
        PropertyKind.Texts => ArrayOf(Entry(typeof(PropertyKind), name => new SchemaInfo(name, "object")
            { Members = [new SchemaMember("str", Named(typeof(string)), false)] })),
        PropertyKind.Tree or PropertyKind.Node => Builtin("any", "value"),
        _ => Named(typeof(string)),
    };

    string ArrayOf(string element) =>
        Entry("[" + element, name => new SchemaInfo($"[{element}]", "array") { ElementType = element }, $"[{element}]");

    string Builtin(string name, string jsonType) =>
        Entry(name, _ => new SchemaInfo(name, "builtin") { JsonType = jsonType }, name);

    /// <summary>The key has its name before its entry is made: types may refer to themselves.</summary>
    string Entry(object key, Func<string, SchemaInfo> make, string? name = null)
    {
        if (_names.TryGetValue(key, out string? known)) return known;
        name ??= _names.Count.ToString(CultureInfo.InvariantCulture);
        _names.Add(key, name);
        _types.Add(make(name));
        return name;
    }
}
