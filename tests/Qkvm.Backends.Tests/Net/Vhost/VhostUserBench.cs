using Qkvm.Backends.Char;
using Qkvm.Backends.Vhost;
using Qkvm.Core.Configuration;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Backends.Tests.Net.Vhost;

/// <summary>A host with a loop, shared memory, and a socket to which an <see cref="EchoPeer"/> connects.</summary>
public abstract class VhostUserBench : IDisposable
{
    static readonly TimeSpan s_hang = TimeSpan.FromMinutes(1);

    readonly string _folder = Directory.CreateTempSubdirectory("vhost").FullName;
    readonly MemoryFile _file = MemoryFile.Create("ram", isShared: true);
    readonly List<IDisposable> _signals = [];
    SocketChar? _chardev;

    private protected VhostUserBench()
    {
        Host = new FakeHost(Loop.Loop);
        Memory = new TestMemory(_file);
    }

    private protected TestLoop Loop { get; } = new();
    private protected FakeHost Host { get; }
    private protected TestMemory Memory { get; }
    private protected string SocketPath => Path.Combine(_folder, "socket");

    /// <summary>What stands on the chardev; it goes before it.</summary>
    private protected IDisposable? Served { get; set; }

    public void Dispose()
    {
        Loop.Do(() =>
        {
            Served?.Dispose();
            _chardev?.Dispose();
        });
        Loop.Dispose();
        foreach (IDisposable signal in _signals) signal.Dispose();
        Memory.Dispose();
        Directory.Delete(_folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>A chardev c that waits for peers: the same one, however often.</summary>
    private protected SocketChar Chardev(bool hasPeer = true)
    {
        _chardev ??= Loop.Do(() => (SocketChar)SocketChar.Model.Create(new Properties(SocketChar.Model,
            Options.Parse($"id=c,path={SocketPath},server=on,wait=off", "-chardev socket")), Host));
        Host.Backends.Chardevs["c"] = _chardev;
        if (hasPeer) Loop.Await(() => _chardev.IsOpen);
        return _chardev;
    }

    /// <summary>A ring with signals of its own.</summary>
    private protected VhostRing RingOf(int index, int size, ulong descriptors, ulong available, ulong used,
        Func<uint?> afterLoss)
    {
        var ring = new VhostRing(index, size, descriptors, available, used, 0, afterLoss, new WakeEvent(),
            new WakeEvent());
        _signals.AddRange([ring.Kick, ring.Call]);
        return ring;
    }

    private protected static bool Wait(Func<bool> condition) => SpinWait.SpinUntil(condition, s_hang);

    private protected static void Ends(Task work) => Assert.True(Wait(() => work.IsCompleted));
}
