using Qkvm.Core.Block;

namespace Qkvm.Backends.Net.Hub;

/// <summary>A hub: what comes in at one end goes out at all others. Frames are finished when they come: its ends take
/// and give no offloads.</summary>
sealed class NetHub(int id)
{
    readonly Lock _changing = new();
    volatile HubEnd[] _ends = [];                                  // replaced whole

    public int Id => id;

    public void Add(HubEnd end)
    {
        lock (_changing) _ends = [.. _ends, end];
    }

    public void Remove(HubEnd end)
    {
        lock (_changing) _ends = [.. _ends.Where(e => e != end)];
    }

    public void Spread(HubEnd from, in ScatterList frame)
    {
        foreach (HubEnd end in _ends)
        {
            if (end == from || end.Rent(frame.Length) is not { } buffer) continue;
            frame.CopyTo(buffer);
            end.Put(buffer, (int)frame.Length);
        }
    }

    public void Spread(HubEnd from, ReadOnlySpan<byte> frame)
    {
        foreach (HubEnd end in _ends)
        {
            if (end == from || end.Rent(frame.Length) is not { } buffer) continue;
            frame.CopyTo(buffer);
            end.Put(buffer, frame.Length);
        }
    }
}
