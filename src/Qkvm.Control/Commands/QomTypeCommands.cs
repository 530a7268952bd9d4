using System.Text.Json.Serialization;
using Qkvm.Control.Qom;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Implements">Only types of this kind.</param>
/// <param name="Abstract">Also those that there are no objects of.</param>
public sealed record QomListTypesArguments(string? Implements = null, bool? Abstract = null);

public sealed record QomTypeInfo(string Name, string Parent)
{
    /// <summary>Null where it is not.</summary>
    public bool? Abstract { get; init; }
}

public sealed record QomTypeName(string Typename);

/// <summary>What types of objects there are, and what they take: read from the catalogues.</summary>
static class QomTypeCommands
{
    public static readonly Command ListTypes = new Command<QomListTypesArguments, IReadOnlyList<QomTypeInfo>>(
        "qom-list-types", QomTypesJson.Default, static (context, arguments) =>
        {
            IEnumerable<QomType> all = QomTypes.All(context);
            if (arguments.Implements is { } kind) all = all.Where(type => QomTypes.Is(type, kind));
            IEnumerable<QomTypeInfo> found = all.Select(type => new QomTypeInfo(type.Name, type.Parent));
            if (arguments is { Abstract: true, Implements: null })
                found = found.Concat(QomTypes.Abstract.Select(t => new QomTypeInfo(t.Name, t.Parent)
                    { Abstract = true }));
            return [.. found];
        });

    public static readonly Command DeviceProperties = new Command<QomTypeName, IReadOnlyList<ObjectPropertyInfo>>(
        "device-list-properties", QomTypesJson.Default, static (context, arguments) =>
        {
            QomType type = QomTypes.Find(context, arguments.Typename)
                ?? throw CommandException.DeviceNotFound(arguments.Typename);
            if (!type.IsDevice)
                throw new CommandException("Parameter 'typename' expects a non-abstract device type");
            return PropertiesOf(type);
        });

    public static readonly Command TypeProperties = new Command<QomTypeName, IReadOnlyList<ObjectPropertyInfo>>(
        "qom-list-properties", QomTypesJson.Default, static (context, arguments) =>
        [
            new("type", "string"), .. PropertiesOf(QomTypes.Find(context, arguments.Typename)
                ?? throw new CommandException($"Class '{arguments.Typename}' not found", ErrorClass.DeviceNotFound)),
        ]);

    static IReadOnlyList<ObjectPropertyInfo> PropertiesOf(QomType type) =>
        [.. QomValues.Shown(type.Properties).Select(p => new ObjectPropertyInfo(p.Name, QomValues.TypeOf(p))
        {
            Description = p.Help.Length > 0 ? p.Help : null,
            DefaultValue = QomValues.Of(p, p.Default),
        })];
}

[JsonSerializable(typeof(QomListTypesArguments))]
[JsonSerializable(typeof(QomTypeName))]
[JsonSerializable(typeof(IReadOnlyList<QomTypeInfo>))]
[JsonSerializable(typeof(IReadOnlyList<ObjectPropertyInfo>))]
sealed partial class QomTypesJson : JsonSerializerContext;
