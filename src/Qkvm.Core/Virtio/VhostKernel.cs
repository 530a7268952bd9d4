using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Core.Virtio;

/// <summary>The kernel serves a device's rings, in memory of this process.</summary>
/// <remarks>It does at once what it is asked. What it refuses is a driver's mistake, such as a ring outside
/// RAM.</remarks>
/// <param name="file">Becomes this object's own.</param>
/// <param name="served">Rings; it runs while it has them all.</param>
/// <param name="run">Starts and stops it.</param>
public sealed class VhostKernel(IVhostFile file, int served, Action<bool> run) : IVhostBackend, IDisposable
{
    readonly HashSet<int> _rings = [];
    IReadOnlyList<VhostRegion> _memory = [];
    bool _isRunning;

    public ulong Features => file.Features;
    public bool IsConnected => true;
    public bool NeedsSharedMemory => false;

    /// <summary>Never: it stays.</summary>
    public event Action Changed { add { } remove { } }

    public event Action<string>? Failed;

    public void Start(ulong features, IReadOnlyList<VhostRegion> memory) => Try(() =>
    {
        file.SetFeatures(features & Features);
        Give(memory);
    });

    public void SetMemory(IReadOnlyList<VhostRegion> memory) => Try(() => Give(memory));

    public void StartRing(VhostRing ring) => Try(() =>
    {
        file.SetRing(ring.Index, ring.Size, ring.Position, new VhostRingPlaces(PlaceOf(ring.Descriptors),
            PlaceOf(ring.DriverArea), PlaceOf(ring.DeviceArea)));
        file.SetSignals(ring.Index, ring.Call, ring.Kick);
        _rings.Add(ring.Index);
        if (_rings.Count == served) Run(true);
    });

    public Task StopRingAsync(int index)
    {
        _rings.Remove(index);
        Try(() => Run(false));
        return Task.CompletedTask;
    }

    public void Dispose() => file.Dispose();

    void Run(bool on)
    {
        if (_isRunning == on) return;
        run(on);
        _isRunning = on;
    }

    void Give(IReadOnlyList<VhostRegion> memory)
    {
        _memory = memory;
        file.SetMemory([.. memory.Select(region => new VhostMemory(region.Address, region.Size, region.HostAddress))]);
    }

    /// <summary>0 for what is no memory: the kernel refuses it.</summary>
    ulong PlaceOf(ulong address)
    {
        foreach (VhostRegion region in _memory)
            if (address - region.Address < region.Size) return region.HostAddress + (address - region.Address);
        return 0;
    }

    void Try(Action work)
    {
        try { work(); }
        catch (HostException e) { Failed?.Invoke($"vhost: {e.Message}"); }
    }
}
