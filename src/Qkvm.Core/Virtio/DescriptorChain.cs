using Qkvm.Core.Block;
using Qkvm.Core.Memory;

namespace Qkvm.Core.Virtio;

/// <summary>One request of a driver: bytes to read, then bytes to write, as pieces of guest RAM. Reused by its
/// queue.</summary>
public sealed class DescriptorChain
{
    readonly List<Memory<byte>> _readable = [];
    readonly List<Memory<byte>> _writable = [];
    readonly List<(ulong Address, uint Length)> _writableRanges = [];

    /// <summary>What the used ring names it by: the head's index, or the packed ring's buffer id.</summary>
    internal ushort Id { get; set; }

    /// <summary>Places that it takes in a packed ring.</summary>
    internal ushort Slots { get; set; }

    /// <summary>Bytes the driver gave; below 2^32 together with <see cref="WritableLength"/>.</summary>
    public uint ReadableLength { get; private set; }
    public uint WritableLength { get; private set; }

    /// <summary>What the driver wrote; it may change while we look: read each byte once.</summary>
    public ScatterList Readable => new(_readable, 0, 0, ReadableLength);

    /// <summary>What the device may write. Bytes written are announced by the queue's Fill.</summary>
    public ScatterList Writable => new(_writable, 0, 0, WritableLength);

    /// <summary>Gives the pages of RAM that lie wholly in what the device may write back to the host; the rest
    /// stays.</summary>
    public void DiscardWritable(Dma dma)
    {
        foreach ((ulong address, uint length) in _writableRanges) dma.DiscardPages(address, length);
    }

    internal void Begin(ushort id)
    {
        Id = id;
        (ReadableLength, WritableLength) = (0, 0);
        _readable.Clear();
        _writable.Clear();
        _writableRanges.Clear();
    }

    /// <summary>Appends a buffer; returns what is wrong with it, or null.</summary>
    internal string? Add(Dma dma, ulong address, uint length, bool writable)
    {
        if (length == 0) return "a buffer of no bytes";
        if (!writable && _writableRanges.Count > 0) return "a readable buffer after a writable one";
        if ((ulong)ReadableLength + WritableLength + length > uint.MaxValue) return "a chain of 4 GiB";
        if (!dma.TryMap(address, length, writable, writable ? _writable : _readable)) return "a buffer outside RAM";
        if (writable)
        {
            _writableRanges.Add((address, length));
            WritableLength += length;
        }
        else ReadableLength += length;
        return null;
    }

    internal void MarkWritten(Dma dma, uint written)
    {
        foreach ((ulong address, uint length) in _writableRanges)
        {
            uint count = Math.Min(length, written);
            if (count == 0) return;
            dma.MarkWritten(address, count);
            written -= count;
        }
    }
}
