using Qkvm.Core.Memory;

namespace Qkvm.Testing;

/// <summary>A driver's side of a packed virtqueue (Virtio 1.2, section 2.8), in guest memory, with nothing checked: it
/// can lie.</summary>
public sealed class PackedGuestQueue(AddressSpace memory, ulong at, int size)
{
    public const ushort Next = 1, Write = 2, Indirect = 4, Available = 1 << 7, Used = 1 << 15;

    readonly Dictionary<ushort, int> _lengths = [];
    int _next, _used;
    bool _nextWrap = true, _usedWrap = true;
    ushort _nextId = 100;

    public ulong Descriptors => at;
    public ulong DriverEvent => at + 16 * (ulong)size;
    public ulong DeviceEvent => DriverEvent + 4;

    /// <summary>What the driver wants to hear: 0 all, 1 nothing, 2 when the place is used.</summary>
    public void Wish(int flags, int place = 0, bool wrap = true) =>
        memory.Write(DriverEvent, 4, (uint)(place | (wrap ? 1 << 15 : 0) | flags << 16));

    public (int Flags, int Place, bool Wrap) DeviceWish
    {
        get
        {
            uint wish = (uint)memory.Read(DeviceEvent, 4);
            return ((int)(wish >> 16), (int)(wish & 0x7FFF), (wish & 0x8000) != 0);
        }
    }

    public void Descriptor(int index, ulong address, uint length, ushort id, int flags) =>
        DescriptorAt(at + 16 * (ulong)index, address, length, id, flags);

    public void DescriptorAt(ulong where, ulong address, uint length, ushort id, int flags)
    {
        memory.Write(where, 8, address);
        memory.Write(where + 8, 4, length);
        memory.Write(where + 12, 2, id);
        memory.Write(where + 14, 2, (ushort)flags);
    }

    /// <summary>Gives a chain; negative lengths are writable buffers. Its id stands in the last descriptor
    /// alone.</summary>
    public ushort Add(params (ulong Address, int Length)[] buffers)
    {
        ushort id = _nextId++;
        Give(id, [.. buffers.Select(b => (b.Address, (uint)Math.Abs(b.Length), b.Length < 0 ? (int)Write : 0))]);
        return id;
    }

    /// <summary>Gives descriptors with these flags, NEXT on all but the last.</summary>
    public void Give(ushort id, params (ulong Address, uint Length, int Flags)[] chain)
    {
        _lengths[id] = chain.Length;
        for (int i = 0; i < chain.Length; i++)
        {
            bool isLast = i == chain.Length - 1;
            int flags = chain[i].Flags | (isLast ? 0 : Next) | (_nextWrap ? Available : Used);
            Descriptor(_next, chain[i].Address, chain[i].Length, isLast ? id : (ushort)0xDEAD, flags);
            if (++_next < size) continue;
            (_next, _nextWrap) = (0, !_nextWrap);
        }
    }

    /// <summary>The next used element, or null. Its length counts if the device says that it wrote.</summary>
    public (ushort Id, uint Written)? TakeUsed()
    {
        ulong where = at + 16 * (ulong)_used;
        ushort flags = (ushort)memory.Read(where + 14, 2);
        if ((flags & Available) != 0 != _usedWrap || (flags & Used) != 0 != _usedWrap) return null;
        var id = (ushort)memory.Read(where + 12, 2);
        _used += _lengths[id];
        if (_used >= size) (_used, _usedWrap) = (_used - size, !_usedWrap);
        return (id, (flags & Write) != 0 ? (uint)memory.Read(where + 8, 4) : 0);
    }
}
