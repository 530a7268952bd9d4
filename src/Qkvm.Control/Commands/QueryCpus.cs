using System.Text.Json.Serialization;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>Where a vCPU sits.</summary>
/// <param name="NodeId">Null where memory is one piece.</param>
public sealed record CpuPlace(int? NodeId, int SocketId, int? DieId, int CoreId, int ThreadId);

/// <param name="ThreadId">The host's number of the thread that runs it.</param>
public sealed record CpuInfo(int CpuIndex, string QomPath, string QomType, int ThreadId, CpuPlace Props,
    string Target)
{
    /// <summary>For the human monitor alone.</summary>
    [JsonIgnore] public bool IsHalted { get; init; }
}

/// <summary>A vCPU that there is or could be.</summary>
/// <param name="QomPath">Null where it is not there.</param>
public sealed record PossibleCpu(CpuPlace Props, int VcpusCount, string? QomPath, string Type);

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

    /// <summary>The highest first.</summary>
    public static readonly Command Possible = new Command<Nothing, IReadOnlyList<PossibleCpu>>(
        "query-hotpluggable-cpus", CpusJson.Default, (context, _) => [.. Enumerable.Range(0,
            context.Machine.Config.Topology.MaxCpus).Reverse().Select(index => Describe(context.Machine, index))])
    {
        Human = new("info hotpluggable-cpus", "", "Show information about hotpluggable CPUs", null,
            static (monitor, cpus) =>
            {
                monitor.Write("Hotpluggable CPUs:\n");
                foreach (PossibleCpu cpu in cpus)
                {
                    monitor.Write($"  type: \"{cpu.Type}\"\n  vcpus_count: \"{cpu.VcpusCount}\"\n");
                    if (cpu.QomPath != null) monitor.Write($"  qom_path: \"{cpu.QomPath}\"\n");
                    monitor.Write("  CPUInstance Properties:\n");
                    if (cpu.Props.NodeId is { } node) monitor.Write($"    node-id: \"{node}\"\n");
                    monitor.Write($"    socket-id: \"{cpu.Props.SocketId}\"\n");
                    if (cpu.Props.DieId is { } die) monitor.Write($"    die-id: \"{die}\"\n");
                    monitor.Write($"    core-id: \"{cpu.Props.CoreId}\"\n"
                        + $"    thread-id: \"{cpu.Props.ThreadId}\"\n");
                }
            }),
    };

    static PossibleCpu Describe(IMachine machine, int index) =>
        new(PlaceOf(machine.Config, index), 1,
            machine.Cpus.Any(cpu => cpu.Index == index) ? PathOf(machine, index) : null, TypeOf(machine));

    static string TypeOf(IMachine machine) => $"{machine.Config.Cpu.Model}-x86_64-cpu";

    static CpuInfo Describe(IMachine machine, IVCpu cpu) =>
        new(cpu.Index, PathOf(machine, cpu.Index), TypeOf(machine), machine.ThreadOf(cpu),
            PlaceOf(machine.Config, cpu.Index), "x86_64")
            { IsHalted = cpu.IsHalted };

    internal static string PathOf(IMachine machine, int index) =>
        machine.Slots?.Devices.FirstOrDefault(node => node.Device is ICpuDevice cpu && cpu.Index == index) is { } node
            ? node.Site!.ObjectPath : $"/machine/unattached/cpu[{index}]";

    static CpuPlace PlaceOf(MachineConfig config, int index)
    {
        (int socket, int die, int core, int thread) = config.Topology.PlaceOf(index);
        return new CpuPlace(config.Numa.NodeOf(index), socket, config.Topology.Dies > 1 ? die : null, core, thread);
    }
}

[JsonSerializable(typeof(IReadOnlyList<PossibleCpu>))]
[JsonSerializable(typeof(IReadOnlyList<CpuInfo>))]
sealed partial class CpusJson : JsonSerializerContext;
