using System.Text.Json.Serialization;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Singlestep">The software CPU runs one instruction at a time; QEMU 7.2's name.</param>
public sealed record StatusInfo(RunState Status, bool Singlestep, bool Running);

static class QueryStatus
{
    public static readonly Command Command =
        new Command<Nothing, StatusInfo>("query-status", StatusJson.Default, (context, _) =>
    {
        RunState state = context.Machine.State;
        return new StatusInfo(state, context.Machine.Accelerator is ISingleStepping { OneInstruction: true },
            state == RunState.Running);
    })
    {
        Human = new("info status", "", "show the current VM status (running|paused)", null, (monitor, status) =>
        {
            string detail = status.Status is RunState.Running or RunState.Paused ? "" : $" ({status.Status.Text()})";
            monitor.Write($"VM status: {(status.Running ? "running" : "paused")}"
                + $"{(status.Singlestep ? " (single step mode)" : "")}{detail}\n");
        }),
    };
}

[JsonSerializable(typeof(StatusInfo))]
sealed partial class StatusJson : JsonSerializerContext;
