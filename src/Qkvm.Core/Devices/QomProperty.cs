using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qkvm.Core.Devices;

/// <summary>A value of an object that qom-list shows.</summary>
/// <param name="Type">QEMU's name: "bool", "uint32", "str" …</param>
/// <param name="Get">Null: there is no value now.</param>
/// <param name="Set">Null: it cannot be changed. Throws CommandException for what does not fit.</param>
public sealed record QomProperty(string Name, string Type, Func<JsonNode?> Get, Action<JsonElement>? Set = null);

/// <summary>A device with values beside its options that clients read and change while it runs.</summary>
public interface ILiveProperties
{
    IEnumerable<QomProperty> LiveProperties { get; }
}
