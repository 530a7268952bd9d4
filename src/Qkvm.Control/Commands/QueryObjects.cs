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

/// <param name="HostNodes">Nodes of the host that it lies on; none are bound.</param>
public sealed record MemoryDeviceBackend(string Id, ulong Size, bool Merge, bool Dump, bool Prealloc, bool Share,
    IReadOnlyList<int> HostNodes, string Policy = "default");

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
        ObjectsJson.Default, static (context, _) => [.. context.Backends.ObjectOptions
            .Where(made => context.Backends.Objects[made.Key] is MemoryBackend)
            .Select(made => Describe(made.Key, (MemoryBackend)context.Backends.Objects[made.Key], made.Value.Given))])
    {
        Human = new("info memdev", "", "show memory backends", null, static (monitor, backends) =>
        {
            foreach (MemoryDeviceBackend one in backends)
                monitor.Write($"memory backend: {one.Id}\n  size:  {one.Size}\n  merge: {Word(one.Merge)}\n"
                    + $"  dump: {Word(one.Dump)}\n  prealloc: {Word(one.Prealloc)}\n  share: {Word(one.Share)}\n"
                    + $"  policy: {one.Policy}\n  host nodes:\n");
            monitor.Write("\n");
        }),
    };

    static IoThreadInfo Describe(string id, IoThread thread) => new(id, thread.ThreadId, thread.MaxPoll);

    static MemoryDeviceBackend Describe(string id, MemoryBackend memory, Properties given) => new(id, memory.Size,
        memory.IsMerged ?? true, memory.IsDumped ?? true, memory.IsPreallocated, given.Bool("share"), []);

    static string Word(bool on) => on ? "true" : "false";
}

[JsonSerializable(typeof(IReadOnlyList<IoThreadInfo>))]
[JsonSerializable(typeof(IReadOnlyList<MemoryDeviceBackend>))]
sealed partial class ObjectsJson : JsonSerializerContext;
