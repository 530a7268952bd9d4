using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Machines;

/// <summary>The loops that move data outside the machine lock: one for each -object iothread, and one for all devices
/// that name none,
/// each on a thread of its own from its first use on.</summary>
public sealed class IoThreads : IDisposable
{
    /// <summary>poll-max-ns where users give none; more than QEMU's 32768, since a guest on the software CPU takes
    /// longer for its next
    /// request, and a wake-up costs it two system calls.</summary>
    public const long DefaultPoll = 100_000;

    const string Unnamed = "";

    readonly Dictionary<string, Made> _made = new(StringComparer.Ordinal);

    sealed record Made(EventLoop Loop, Thread Thread);

    public void Add(string id, long pollNanoseconds, string owner)
    {
        if (_made.ContainsKey(id)) throw new ConfigurationException($"{owner}: attempt to add duplicate property '{id}'");
        Make(id, pollNanoseconds);
    }

    /// <param name="id">Null for the one that has no name.</param>
    public IoLoop Find(string? id, string owner)
    {
        if (_made.TryGetValue(id ?? Unnamed, out Made? found)) return found.Loop;
        if (id != null)
            throw new ConfigurationException($"{owner}: Property 'iothread' can't find value '{id}'; give -object iothread,id={id}");
        return Make(Unnamed, DefaultPoll);
    }

    public void Dispose()
    {
        foreach (Made made in _made.Values) made.Loop.Stop();
        foreach (Made made in _made.Values) made.Thread.Join();
        foreach (Made made in _made.Values) made.Loop.Dispose();
        _made.Clear();
    }

    EventLoop Make(string id, long pollNanoseconds)
    {
        var loop = new EventLoop(pollNanoseconds: pollNanoseconds);
        var thread = new Thread(loop.Run) { Name = $"IO {(id == Unnamed ? "data" : id)}", IsBackground = true };
        _made[id] = new Made(loop, thread);
        thread.Start();
        return loop;
    }
}
