using Qkvm.Core.State;

namespace Qkvm.Hw;

/// <summary>A chip's small FIFO of bytes.</summary>
public sealed class ByteQueue(int capacity)
{
    // not migrated: Exchange moves what is queued to the front
    readonly byte[] _bytes = new byte[capacity];
    int _first;                                                    // not migrated: 0 after loading

    public int Capacity => _bytes.Length;
    public int Count { get; private set; }
    public int Room => _bytes.Length - Count;

    /// <summary>The oldest byte, or 0 of an empty queue.</summary>
    public byte Peek() => Count > 0 ? _bytes[_first] : (byte)0;

    /// <summary>False, and the byte is lost, where the queue is full.</summary>
    public bool TryPush(byte value)
    {
        if (Room == 0) return false;
        _bytes[(_first + Count) % _bytes.Length] = value;
        Count++;
        return true;
    }

    public byte Pop()
    {
        byte value = Peek();
        Drop(Math.Min(1, Count));
        return value;
    }

    /// <summary>The oldest bytes that lie together.</summary>
    public ReadOnlySpan<byte> Front => _bytes.AsSpan(_first, Math.Min(Count, _bytes.Length - _first));

    public void Drop(int count)
    {
        Count -= count;
        _first = Count == 0 ? 0 : (_first + count) % _bytes.Length;
    }

    public void Clear() => Count = _first = 0;

    public void Exchange(StateStream state, string name)
    {
        byte[] bytes = [];
        if (!state.IsLoading)
        {
            bytes = new byte[Count];
            for (int i = 0; i < Count; i++) bytes[i] = _bytes[(_first + i) % _bytes.Length];
        }
        else Clear();
        state.Blob(name, ref bytes, _bytes.Length);
        if (!state.IsLoading) return;
        foreach (byte value in bytes) TryPush(value);
    }
}
