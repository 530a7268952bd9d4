using Qkvm.Core.Memory;

namespace Qkvm.Testing;

/// <summary>A driver's side of a split virtqueue, in guest memory, with nothing checked: it can lie.</summary>
public sealed class GuestQueue(AddressSpace memory, ulong at, int size)
{
    public const ushort Next = 1, Write = 2, Indirect = 4;

    ushort _available;
    ushort _seen;
    ushort _nextFree;

    public int Size => size;
    public ulong Descriptors => at;
    public ulong Available => at + 16 * (ulong)size;
    public ulong Used => (Available + 6 + 2 * (ulong)size + 0xFFF) & ~0xFFFUL;

    public ushort AvailableFlags { set => memory.Write(Available, 2, value); }
    public ushort AvailableIndex { get => _available; set => memory.Write(Available + 2, 2, _available = value); }
    public ushort UsedEvent { set => memory.Write(Available + 4 + 2 * (ulong)size, 2, value); }
    public ushort UsedFlags => (ushort)memory.Read(Used, 2);
    public ushort UsedIndex => (ushort)memory.Read(Used + 2, 2);
    public ushort AvailableEvent => (ushort)memory.Read(Used + 4 + 8 * (ulong)size, 2);

    public void Descriptor(int index, ulong address, uint length, ushort flags, ushort next = 0) =>
        DescriptorAt(at + 16 * (ulong)index, address, length, flags, next);

    public void DescriptorAt(ulong where, ulong address, uint length, ushort flags, ushort next = 0)
    {
        memory.Write(where, 8, address);
        memory.Write(where + 8, 4, length);
        memory.Write(where + 12, 2, flags);
        memory.Write(where + 14, 2, next);
    }

    /// <summary>Puts a head into the available ring.</summary>
    public void Offer(ushort head)
    {
        memory.Write(Available + 4 + 2 * ((ulong)_available % (ulong)size), 2, head);
        AvailableIndex++;
    }

    /// <summary>Makes a chain of free descriptors and offers it; negative lengths are writable buffers.</summary>
    public ushort Add(params (ulong Address, int Length)[] buffers)
    {
        ushort head = (ushort)(_nextFree % size);
        for (int i = 0; i < buffers.Length; i++)
        {
            ushort flags = (ushort)((buffers[i].Length < 0 ? Write : 0) | (i + 1 < buffers.Length ? Next : 0));
            int index = _nextFree++ % size;
            Descriptor(index, buffers[i].Address, (uint)Math.Abs(buffers[i].Length), flags, (ushort)(_nextFree % size));
        }
        Offer(head);
        return head;
    }

    /// <summary>The next used element, or null.</summary>
    public (uint Id, uint Written)? TakeUsed()
    {
        if (UsedIndex == _seen) return null;
        ulong element = Used + 4 + 8 * ((ulong)_seen++ % (ulong)size);
        return ((uint)memory.Read(element, 4), (uint)memory.Read(element + 4, 4));
    }
}
