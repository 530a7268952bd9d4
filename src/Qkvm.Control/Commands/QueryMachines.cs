using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

static class QueryMachines
{
    public static readonly Command Command = new Command<Nothing, IReadOnlyList<MachineInfo>>("query-machines",
        MachinesJson.Default, (context, _) => context.MachineTypes.Value);
}

[JsonSerializable(typeof(IReadOnlyList<MachineInfo>))]
sealed partial class MachinesJson : JsonSerializerContext;
