using Qkvm.Core.Logging;
using Qkvm.Host;

namespace Qkvm.Core.Memory;

public enum RegionKind { Container, Ram, Rom, Io, Alias }

/// <summary>A node of the memory tree, after the model of QEMU's docs/devel/memory.rst: containers hold children at
/// addresses with priorities, aliases show a window of another region, RAM, ROM and register banks are the
/// leaves.</summary>
/// <remarks>Any change travels up to the address spaces that show the region, which build a new view at once (or at the
/// end of their batch). Changed under the machine lock.</remarks>
public sealed class MemoryRegion
{
    // by descending priority, the newest first among equals
    readonly List<MemoryRegion> _children = [];
    readonly List<Action> _observers = [];
    bool _enabled = true, _readsBank;

    MemoryRegion(string name, ulong size, RegionKind kind)
    {
        Name = name;
        Size = size;
        Kind = kind;
    }

    public static MemoryRegion Container(string name, ulong size) => new(name, size, RegionKind.Container);

    public static MemoryRegion OfRam(string name, GuestRam ram, ulong ramOffset, ulong size) =>
        new(name, size, RegionKind.Ram) { Ram = ram, RamOffset = ramOffset };

    /// <summary>RAM that the guest cannot write; writes go to <paramref name="writes"/> or nowhere.</summary>
    /// <param name="sizes">Of the bank's registers; all that there are where it is left out.</param>
    public static MemoryRegion Rom(string name, GuestRam ram, ulong ramOffset, ulong size,
        IRegisterBank? writes = null, AccessSizes sizes = default) =>
        new(name, size, RegionKind.Rom) { Ram = ram, RamOffset = ramOffset, Bank = writes, Sizes = sizes };

    public static MemoryRegion Io(string name, ulong size, IRegisterBank bank, AccessSizes sizes,
        LateWrites? late = null) => new(name, size, RegionKind.Io) { Bank = bank, Sizes = sizes, LateWrites = late };

    public static MemoryRegion Alias(string name, MemoryRegion target, ulong targetOffset, ulong size,
        bool readOnly = false)
    {
        var alias = new MemoryRegion(name, size, RegionKind.Alias) { Target = target, TargetOffset = targetOffset,
            ReadOnly = readOnly };
        target._observers.Add(alias.NotifyChanged);
        return alias;
    }

    public string Name { get; }
    public ulong Size { get; private set; }
    public RegionKind Kind { get; }
    public GuestRam? Ram { get; private init; }
    public ulong RamOffset { get; private init; }
    public IRegisterBank? Bank { get; private init; }
    public AccessSizes Sizes { get; private init; }

    /// <summary>Writes that do not reach the bank but ring; for a region of registers, before it is mapped.</summary>
    public DoorbellPlace[]? Doorbells { get; set; }

    /// <summary>Not null: writes may come late.</summary>
    public LateWrites? LateWrites { get; private init; }

    /// <summary>Whose trace events tell of accesses.</summary>
    public RegionTraces Traces { get; set; }

    public MemoryRegion? Target { get; private init; }

    /// <summary>Where in the target an alias begins; changing it moves the window.</summary>
    public ulong TargetOffset { get; private set; }

    /// <summary>Offset in the container; meaningful while <see cref="Parent"/> is set.</summary>
    public ulong Address { get; private set; }
    public int Priority { get; private set; }
    public MemoryRegion? Parent { get; private set; }
    public IReadOnlyList<MemoryRegion> Children => _children;

    /// <summary>A RAM region that reads but cannot be written, as PAM makes it.</summary>
    public bool ReadOnly { get; init; }

    public bool Enabled
    {
        get => _enabled;
        set { if (_enabled == value) return; _enabled = value; NotifyChanged(); }
    }

    /// <summary>Of a ROM: its bank answers reads too, as that of a flash chip does in all modes but one.</summary>
    public bool ReadsBank
    {
        get => _readsBank;
        set { if (_readsBank == value) return; _readsBank = value; NotifyChanged(); }
    }

    /// <summary>Puts a region into this container; of overlapping ones the higher priority shows, then the
    /// later.</summary>
    public void Map(ulong at, MemoryRegion region, int priority = 0)
    {
        if (region.Parent != null) throw new InvalidOperationException($"{region.Name} is mapped already");
        region.Parent = this;
        region.Address = at;
        region.Priority = priority;
        int place = _children.FindIndex(c => c.Priority <= priority);
        _children.Insert(place < 0 ? _children.Count : place, region);
        NotifyChanged();
    }

    public void Unmap(MemoryRegion region)
    {
        if (!_children.Remove(region)) return;
        region.Parent = null;
        NotifyChanged();
    }

    /// <summary>Puts a region where a base register says, above what is there else: maps it, moves it or takes it
    /// out.</summary>
    /// <param name="at">0 for nowhere.</param>
    public void Place(MemoryRegion region, ulong at)
    {
        if (at == 0) { if (region.Parent != null) Unmap(region); }
        else if (region.Parent == null) Map(at, region, 1);
        else region.MoveTo(at);
    }

    /// <summary>Moves a mapped region inside its container.</summary>
    public void MoveTo(ulong address)
    {
        if (Address == address) return;
        Address = address;
        NotifyChanged();
    }

    /// <summary>Moves the window that a mapped alias is: where it stands, and what it shows of the target.</summary>
    public void SetWindow(ulong address, ulong targetOffset, ulong size)
    {
        if (Address == address && TargetOffset == targetOffset && Size == size) return;
        (Address, TargetOffset, Size) = (address, targetOffset, size);
        NotifyChanged();
    }

    internal void Observe(Action changed) => _observers.Add(changed);

    void NotifyChanged()
    {
        foreach (Action observer in _observers) observer();
        Parent?.NotifyChanged();
    }
}
