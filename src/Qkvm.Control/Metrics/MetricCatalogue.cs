using Qkvm.Control.Commands;
using Qkvm.Core.Accel;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Control.Metrics;

/// <summary>All that -metrics tells, in the order in which it is written.</summary>
public static class MetricCatalogue
{
    public static readonly IReadOnlyList<Metric> All =
    [
        new("qkvm_info", MetricKind.Gauge, "Always 1: which machine this is.", static context =>
            [new(1, ("version", ProgramVersion.Text), ("name", context.Machine.Config.Name),
                ("machine", context.Machine.Config.MachineType), ("accelerator", context.Machine.Accelerator.Name))]),
        new("qkvm_state", MetricKind.Gauge, "1 for the state that the machine is in.", static context =>
            [.. Enum.GetValues<RunState>().Select(state =>
                new Sample(state == context.Machine.State ? 1 : 0, ("state", state.Text())))]),
        new("process_cpu_seconds_total", MetricKind.Counter, "Time that processors of the host gave the program.",
            static _ => [new(ThreadTime.OfProcess / NanosecondsPerSecond)]),
        new("process_resident_memory_bytes", MetricKind.Gauge, "Memory of the host that the program uses.",
            static _ => [new(Environment.WorkingSet)]),

        OfCpus("qkvm_vcpu_seconds_total", MetricKind.Counter, "Time that processors of the host gave a vCPU.",
            static (machine, cpu) => ThreadTime.Of(machine.ThreadOf(cpu)) / NanosecondsPerSecond),
        OfCpus("qkvm_vcpu_halted", MetricKind.Gauge, "1 for a vCPU that waits for an interrupt.",
            static (_, cpu) => cpu.IsHalted ? 1 : 0),
        new("qkvm_kvm_events_total", MetricKind.Counter, "What KVM counts of a vCPU: exits by reason, and the kernel's "
            + "own counts.", static context => context.Machine.Accelerator is not ICounting counting ? []
                : context.Machine.Cpus.SelectMany(cpu => counting.Statistics(cpu)
                    .Where(one => one is { Kind: StatisticKind.Cumulative, Exponent: 0 })
                    .Select(one => new Sample(one.Values[0], Cpu(cpu.Index), ("event", one.Name))))),
        OfTranslators("qkvm_translated_blocks_total", MetricKind.Counter, "Blocks of guest code that were translated.",
            static one => one.Blocks),
        OfTranslators("qkvm_translation_code_bytes", MetricKind.Gauge, "Translated code in the cache.",
            static one => one.CodeBytes),
        OfTranslators("qkvm_translation_evictions_total", MetricKind.Counter, "How often the cache was full and "
            + "emptied.", static one => one.Evictions),
        OfTranslators("qkvm_tlb_misses_total", MetricKind.Counter, "Accesses whose page had to be looked for.",
            static one => one.Misses),

        new("qkvm_memory_bytes", MetricKind.Gauge, "Memory that the guest was given.",
            static context => [new(context.Machine.Board.MemorySize)]),
        new("qkvm_balloon_bytes", MetricKind.Gauge, "Memory that the guest has given back through its balloon.",
            static context => context.Find<IBalloon>() is { } balloon ? [new(balloon.Given)] : []),

        OfDisks("qkvm_disk_operations_total", "Requests of the guest to a disk that went well.",
            static (counts, kind) => counts.Count(kind)),
        OfDisks("qkvm_disk_bytes_total", "Bytes of the guest's requests to a disk.",
            static (counts, kind) => counts.Bytes(kind)),
        OfDisks("qkvm_disk_seconds_total", "Time that the guest's requests to a disk took, all together.",
            static (counts, kind) => counts.Time(kind) / NanosecondsPerSecond),
        OfDisks("qkvm_disk_errors_total", "Requests of the guest to a disk that failed.",
            static (counts, kind) => counts.Failed(kind)),

        OfNetdevs("qkvm_network_frames_total", "Frames on the cable of a netdev.", static count => count.Frames),
        OfNetdevs("qkvm_network_bytes_total", "Bytes on the cable of a netdev.", static count => count.Bytes),
        new("qkvm_network_up", MetricKind.Gauge, "1 for a netdev whose cable is not pulled.", static context =>
            [.. context.Backends.Netdevs.Values.Select(static netdev =>
                new Sample(netdev.Link.IsUp ? 1 : 0, ("netdev", netdev.Id)))]),

        OfJobs("qkvm_job_done", "How far a job is, of qkvm_job_length.", static job => job.Current),
        OfJobs("qkvm_job_length", "What a job has to do as far as it knows; of block jobs, bytes.",
            static job => job.Total),
    ];

    const double NanosecondsPerSecond = 1e9;

    static readonly (BlockOperation Kind, string Name)[] s_operations =
    [
        (BlockOperation.Read, "read"), (BlockOperation.Write, "write"), (BlockOperation.Flush, "flush"),
        (BlockOperation.Discard, "discard"), (BlockOperation.WriteZeroes, "write_zeroes"),
    ];

    static (string, string) Cpu(int index) => ("vcpu", $"{index}");

    static Metric OfCpus(string name, MetricKind kind, string help, Func<IMachine, IVCpu, double> read) =>
        new(name, kind, help, context =>
            context.Machine.Cpus.Select(cpu => new Sample(read(context.Machine, cpu), Cpu(cpu.Index))));

    static Metric OfTranslators(string name, MetricKind kind, string help, Func<TranslatorStatistics, double> read) =>
        new(name, kind, help, context => context.Machine.Accelerator is not ITranslating translating ? []
            : translating.Statistics.Select((one, index) => new Sample(read(one), Cpu(index))));

    static Metric OfDisks(string name, string help, Func<BlockStatistics, BlockOperation, double> read) =>
        new(name, MetricKind.Counter, help, context => context.Backends.Drives.Values.SelectMany(drive =>
            s_operations.Select(operation => new Sample(read(drive.Statistics, operation.Kind), ("drive", drive.Id),
                ("operation", operation.Name)))));

    static Metric OfNetdevs(string name, string help, Func<TrafficCount, double> read) =>
        new(name, MetricKind.Counter, help, context => context.Backends.Netdevs.Values.SelectMany(netdev =>
            (IEnumerable<Sample>)[new(read(netdev.Link.Sent), ("netdev", netdev.Id), ("direction", "from_guest")),
                new(read(netdev.Link.Received), ("netdev", netdev.Id), ("direction", "to_guest"))]));

    static Metric OfJobs(string name, string help, Func<Job, double> read) => new(name, MetricKind.Gauge, help,
        context => context.Host.BlockJobs.Jobs.All.Select(job =>
            new Sample(read(job), ("job", job.Id), ("type", JobNames.Of(job.Type)))));
}
