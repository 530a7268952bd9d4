using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Control.Commands;

/// <param name="ThreadId">The host's number.</param>
/// <param name="PollMaxNs">Nanoseconds that it may look for work before it sleeps.</param>
public sealed record IoThreadInfo(string Id, int ThreadId, long PollMaxNs, long PollGrow = 0, long PollShrink = 0,
    long AioMaxBatch = 0);

/// <param name="HostNodes">Nodes of the host that its pages are of, as <paramref name="Policy"/> says.</param>
public sealed record MemoryDeviceBackend(string Id, ulong Size, bool Merge, bool Dump, bool Prealloc, bool Share,
    bool Reserve, IReadOnlyList<int> HostNodes, string Policy);

/// <summary>What -object made, as clients ask for it.</summary>
static class QueryObjects
{
    public static readonly Command IoThreads = new Command<Nothing, IReadOnlyList<IoThreadInfo>>("query-iothreads",
        ObjectsJson.Default, static (context, _) => [.. context.Backends.Objects
            .Where(made => made.Value is IoThread).Select(made => Describe(made.Key, (IoThread)made.Value))])
    {
        Human = new("info iothreads", "", "show iothreads", null, static (monitor, threads) =>
        {
            foreach (IoThreadInfo thread in threads)
                monitor.Write($"{thread.Id}:\n  thread_id={thread.ThreadId}\n  poll-max-ns={thread.PollMaxNs}\n"
                    + $"  poll-grow={thread.PollGrow}\n  poll-shrink={thread.PollShrink}\n"
                    + $"  aio-max-batch={thread.AioMaxBatch}\n");
        }),
    };

    public static readonly Command Memory = new Command<Nothing, IReadOnlyList<MemoryDeviceBackend>>("query-memdev",
        ObjectsJson.Default, static (context, _) => [.. context.Backends.Objects
            .Where(made => made.Value is MemoryBackend)
            .Select(made => Describe(made.Key, (MemoryBackend)made.Value)).Concat(OfMachine(context))
            .OrderBy(one => one.Id, StringComparer.Ordinal)])
    {
        Human = new("info memdev", "", "show memory backends", null, static (monitor, backends) =>
        {
            foreach (MemoryDeviceBackend one in backends)
                monitor.Write($"memory backend: {one.Id}\n  size:  {one.Size}\n  merge: {Word(one.Merge)}\n"
                    + $"  dump: {Word(one.Dump)}\n  prealloc: {Word(one.Prealloc)}\n  share: {Word(one.Share)}\n"
                    + $"  reserve: {Word(one.Reserve)}\n  policy: {one.Policy}\n"
                    + $"  host nodes: {string.Join(' ', one.HostNodes)}\n");
            monitor.Write("\n");
        }),
    };

    static IoThreadInfo Describe(string id, IoThread thread) => new(id, thread.ThreadId, thread.MaxPoll);

    static MemoryDeviceBackend Describe(string id, MemoryBackend memory) => new(id, memory.Size,
        memory.IsMerged ?? true, memory.IsDumped ?? true, memory.IsPreallocated,
        memory.Ram.File is { IsShared: true }, memory.IsReserved, memory.HostNodes,
        memory.Policy.ToString().ToLowerInvariant());

    /// <summary>The machine's own memory, where no object has it.</summary>
    static IEnumerable<MemoryDeviceBackend> OfMachine(CommandContext context)
    {
        GuestRam? first = context.Machine.RamBlocks.FirstOrDefault();
        if (first == null || context.Backends.Objects.Values.Any(made => made is MemoryBackend memory
            && memory.Ram == first)) return [];
        return [Describe(first.Name, new MemoryBackend(first, context.Machine.Config.Memory.IsPreallocated))];
    }

    static string Word(bool on) => on ? "true" : "false";
}

[JsonSerializable(typeof(IReadOnlyList<IoThreadInfo>))]
[JsonSerializable(typeof(IReadOnlyList<MemoryDeviceBackend>))]
sealed partial class ObjectsJson : JsonSerializerContext;
