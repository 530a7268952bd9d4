using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<QmpCapability>))]
public enum QmpCapability { Oob }

public sealed record NegotiateArguments(IReadOnlyList<QmpCapability>? Enable = null);

/// <summary>qmp_capabilities: ends the greeting.</summary>
static class NegotiateCapabilities
{
    public const string Name = "qmp_capabilities";

    public static readonly Command Command =
        new Command<NegotiateArguments, Nothing>(Name, NegotiateJson.Default, (context, arguments) =>
    {
        context.IsNegotiated = true;
        context.AllowsOutOfBand = arguments.Enable?.Contains(QmpCapability.Oob) == true;
        return Nothing.Value;
    });
}

[JsonSerializable(typeof(NegotiateArguments))]
sealed partial class NegotiateJson : JsonSerializerContext;
