using System.Text.Json.Serialization;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>Where a vCPU sits.</summary>
public sealed record CpuPlace(int SocketId, int? DieId, int CoreId, int ThreadId);

/// <param name="ThreadId">The host's number of the thread that runs it.</param>
public sealed record CpuInfo(int CpuIndex, string QomPath, int ThreadId, CpuPlace Props, string Target)
{
    /// <summary>For the human monitor alone.</summary>
    [JsonIgnore] public bool IsHalted { get; init; }
}

static class QueryCpus
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<CpuInfo>>("query-cpus-fast", CpusJson.Default,
        (context, _) => [.. context.Machine.Cpus.Select(cpu => Describe(context.Machine, cpu))])
    {
        Human = new("info cpus", "", "show infos for each CPU", null, (monitor, cpus) =>
        {
            foreach (CpuInfo cpu in cpus)
                monitor.Write($"{(cpu.CpuIndex == monitor.Context.Cpu.Index ? "*" : " ")} CPU #{cpu.CpuIndex}:"
                    + $"{(cpu.IsHalted ? " (halted)" : "")} thread_id={cpu.ThreadId}\n");
        }),
    };

    static CpuInfo Describe(IMachine machine, IVCpu cpu)
    {
        CpuTopology topology = machine.Config.Topology;
        int core = cpu.Index / topology.Threads, die = core / topology.Cores;
        var place = new CpuPlace(die / topology.Dies, topology.Dies > 1 ? die % topology.Dies
            : null, core % topology.Cores, cpu.Index % topology.Threads);
        return new CpuInfo(cpu.Index, $"/machine/unattached/cpu[{cpu.Index}]", machine.ThreadOf(cpu), place,
            "x86_64") { IsHalted = cpu.IsHalted };
    }
}

[JsonSerializable(typeof(IReadOnlyList<CpuInfo>))]
sealed partial class CpusJson : JsonSerializerContext;
