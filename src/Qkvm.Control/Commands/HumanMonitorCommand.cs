using System.Text;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

public sealed record HumanMonitorArguments(string CommandLine, int? CpuIndex = null);

/// <summary>human-monitor-command: a line of the human monitor, and what that prints.</summary>
static class HumanMonitorCommand
{
    public static readonly Command Command =
        new Command<HumanMonitorArguments, string>("human-monitor-command", HumanMonitorJson.Default, RunAsync);

    static async ValueTask<string> RunAsync(CommandContext context, HumanMonitorArguments arguments)
    {
        IVCpu cpu = context.Cpu;
        if (arguments.CpuIndex is { } index)
            context.Cpu = context.Machine.Cpus.FirstOrDefault(one => one.Index == index)
                ?? throw new CommandException("Parameter 'cpu-index' expects a CPU number");
        var monitor = new Recorder(context);
        await Hmp.CommandLine.ExecuteAsync(monitor, arguments.CommandLine).ConfigureAwait(false);
        context.Cpu = cpu;                                         // `cpu N` holds for this line alone
        return monitor.Text.ToString();
    }

    sealed class Recorder(CommandContext context) : IMonitor
    {
        public StringBuilder Text { get; } = new();
        public CommandContext Context { get; } = context;
        public IReadOnlyList<string> History => [];
        public void Write(string text) => Text.Append(text.Replace("\n", "\r\n", StringComparison.Ordinal));
    }
}

[JsonSerializable(typeof(HumanMonitorArguments))]
[JsonSerializable(typeof(string))]
sealed partial class HumanMonitorJson : JsonSerializerContext;
