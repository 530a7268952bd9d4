using Qkvm.Core.Virtio;

namespace Qkvm.Testing;

/// <summary>A peer that serves no rings but keeps what it is told.</summary>
public sealed class FakeVhost : IVhostUser
{
    readonly List<TaskCompletionSource> _stopping = [];

    public ulong Features { get; init; } = VirtioFeatures.EventIndex | VirtioFeatures.Version1;
    public bool IsConnected => true;
    public event Action? Changed;
    public event Action<string>? Failed;
    public event Action? ConfigChanged;
    public int MaxQueues { get; init; } = 64;
    public byte[] Config { get; private set; } = new byte[64];

    /// <summary>What the device asked for.</summary>
    public VhostUserNeeds? Needs { get; set; }

    public SortedDictionary<int, VhostRing> Rings { get; } = [];
    public ulong? Started { get; private set; }
    public List<IReadOnlyList<VhostRegion>> Memory { get; } = [];
    public List<(int Offset, byte[] Data)> Written { get; } = [];
    public bool IsDisposed { get; private set; }

    /// <summary>Rings end when the test says so.</summary>
    public bool IsSlow { get; set; }

    public void Start(ulong features, IReadOnlyList<VhostRegion> memory)
    {
        Started = features;
        Memory.Add(memory);
    }

    public void SetMemory(IReadOnlyList<VhostRegion> memory) => Memory.Add(memory);
    public void StartRing(VhostRing ring) => Rings[ring.Index] = ring;

    public Task StopRingAsync(int index)
    {
        Rings.Remove(index);
        if (!IsSlow) return Task.CompletedTask;
        _stopping.Add(new TaskCompletionSource());
        return _stopping[^1].Task;
    }

    public void SetConfig(int offset, ReadOnlySpan<byte> data) => Written.Add((offset, data.ToArray()));

    public void End() => _stopping.ForEach(one => one.SetResult());

    public void Show(byte[] config)
    {
        Config = config;
        ConfigChanged?.Invoke();
    }

    public void Lose()
    {
        Changed?.Invoke();
        Failed?.Invoke("gone");
    }

    public void Dispose() => IsDisposed = true;
}
