using System.Globalization;
using System.Text.Json.Nodes;
using Qkvm.Core.Configuration;

namespace Qkvm.Control.Qom;

/// <summary>Options as QOM's properties: types and values.</summary>
static class QomValues
{
    /// <summary>What QMP shows of a model's options: all but what is not built.</summary>
    public static IEnumerable<Property> Shown(IEnumerable<Property> properties) =>
        properties.Where(p => p is { Remedy: null, Kind: not PropertyKind.Tree });

    public static string TypeOf(Property property) => property.Kind switch
    {
        PropertyKind.Number => property.Max <= uint.MaxValue ? "uint32" : "uint64",
        PropertyKind.Size => "size",
        PropertyKind.Bool => "bool",
        PropertyKind.OnOffAuto => "OnOffAuto",
        PropertyKind.PciAddress => "int32",
        _ => "str",
    };

    /// <summary>A value as users type it, in JSON; null for none.</summary>
    public static JsonNode? Of(Property property, string? text) => property.Kind switch
    {
        _ when text == null => null,
        PropertyKind.Bool => JsonValue.Create(text == "on"),
        PropertyKind.Number or PropertyKind.Size => text == Property.Auto ? JsonValue.Create(-1)
            : ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong number)
                ? JsonValue.Create(number) : JsonValue.Create(text),
        _ => JsonValue.Create(text),
    };
}
