namespace Qkvm.Core.Net;

/// <summary>What has passed in one direction. Frames that a card leaves to be cut count as one.</summary>
public struct TrafficCount
{
    public long Frames { get; private set; }
    public long Bytes { get; private set; }

    public void Add(long length)
    {
        Frames++;
        Bytes += length;
    }

    public static TrafficCount operator +(TrafficCount left, TrafficCount right) =>
        new() { Frames = left.Frames + right.Frames, Bytes = left.Bytes + right.Bytes };
}
