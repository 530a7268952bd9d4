using System.Text.Json;
using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

/// <summary>Writes an enumeration as QMP does: GuestReset becomes "guest-reset".</summary>
public sealed class NamedEnum<T>()
    : JsonStringEnumConverter<T>(JsonNamingPolicy.KebabCaseLower, allowIntegerValues: false)
    where T : struct, Enum;
