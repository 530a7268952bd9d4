using System.Buffers;
using Qkvm.Core.Net;

namespace Qkvm.Backends.Net.User;

/// <summary>The way to the guest: its card's port, and frames that wait for it.</summary>
/// <remarks>Under the stack's lock. Frames of others than TCP, which keeps its own data, wait here in order; more than
/// there is room for are dropped.</remarks>
sealed class GuestWire
{
    const int MaxWaiting = 512;

    readonly Queue<(byte[] Buffer, int Length)> _waiting = new();
    uint _identification;

    /// <summary>Null while no card is connected.</summary>
    public INetPort? Port { get; set; }

    /// <summary>What the guest's driver lets be left undone.</summary>
    public NetOffloads Offloads { get; set; }

    /// <summary>The thread is the loop's, where the port may be called.</summary>
    public bool IsOnLoop { get; set; }

    /// <summary>The port refused a frame and has not said yet that it has room again.</summary>
    public bool IsBlocked { get; set; }

    /// <summary>Of a packet in fragments: no secret on one wire.</summary>
    public uint NextIdentification() => ++_identification;

    public bool HasWaiting => _waiting.Count > 0;

    public long Dropped { get; private set; }

    /// <summary>Gives the port a frame now. On the loop.</summary>
    /// <returns>False: not now.</returns>
    public bool TrySend(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (IsBlocked || Port == null || !IsOnLoop) return false;
        IsBlocked = !Port.Receive(header, frame);
        return !IsBlocked;
    }

    /// <summary>A finished frame, now or later.</summary>
    public void Send(ReadOnlySpan<byte> frame)
    {
        if (_waiting.Count == 0 && TrySend(default, frame)) return;
        if (Port == null || _waiting.Count >= MaxWaiting) { Dropped++; return; }
        byte[] copy = ArrayPool<byte>.Shared.Rent(frame.Length);
        frame.CopyTo(copy);
        _waiting.Enqueue((copy, frame.Length));
    }

    /// <summary>Frames that waited, as far as the port takes them.</summary>
    public void Flush()
    {
        while (_waiting.TryPeek(out (byte[] Buffer, int Length) next)
            && TrySend(default, next.Buffer.AsSpan(0, next.Length))) Forget();
    }

    public void Clear()
    {
        while (HasWaiting) Forget();
        (IsBlocked, Offloads) = (false, NetOffloads.None);
    }

    void Forget() => ArrayPool<byte>.Shared.Return(_waiting.Dequeue().Buffer);
}
