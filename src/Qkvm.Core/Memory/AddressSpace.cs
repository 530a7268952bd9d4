using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Core.Memory;

/// <summary>Memory or I/O ports as a CPU sees them. Reads and writes from any thread: RAM without a lock, registers
/// under the machine lock. What nobody answers reads as all ones.</summary>
public sealed class AddressSpace
{
    readonly MachineLock _lock;
    AddressSpace? _above;
    FlatView _view;
    int _batches;
    bool _stale;

    /// <param name="below">A space that this one shows among others, by an alias: a batch there is one here,
    /// too.</param>
    public AddressSpace(string name, MemoryRegion root, MachineLock machineLock, AddressSpace? below = null)
    {
        below?._above = this;
        Name = name;
        Root = root;
        _lock = machineLock;
        _view = FlatView.Of(root);
        root.Observe(OnRootChanged);
    }

    public string Name { get; }
    public MemoryRegion Root { get; }
    public FlatView View => Volatile.Read(ref _view);

    /// <summary>Hears of accesses that make no sense, and of all to registers where it wants them; null:
    /// nobody.</summary>
    public MachineLog? Log { get; set; }

    /// <summary>Accesses where nothing is are mistakes: in memory, not at I/O ports, where drivers look for
    /// devices.</summary>
    public bool RejectsUnassigned { get; init; }

    /// <summary>(old view, new view), under the machine lock; accelerators map their slots here.</summary>
    public event Action<FlatView, FlatView>? ViewChanged;

    public void Map(ulong at, MemoryRegion region, int priority = 0) => Root.Map(at, region, priority);

    /// <summary>Several changes, one new view: <c>using (space.Batch()) …</c></summary>
    public BatchScope Batch()
    {
        for (AddressSpace? space = this; space != null; space = space._above) space._batches++;
        return new BatchScope(this);
    }

    /// <summary>1, 2, 4 or 8 bytes, little endian, zero extended.</summary>
    public ulong Read(ulong address, int size)
    {
        if (!View.TryFind(address, out FlatRange range))
        {
            if (RejectsUnassigned) Log?.Rejected(null, address, size, write: false);
            return Ones(size);
        }
        if ((ulong)size > range.End - address) return ReadAcross(address, size);
        ulong offset = range.Offset + (address - range.Start);
        if (range.Ram is { } ram) return ram.Read(range.Region.RamOffset + offset, size);
        ulong value;
        using (_lock.Hold()) value = ReadBank(range.Region, offset, size);
        if (Log is { SeesAccesses: true } log) log.Accessed(range.Region, address, offset, size, value, write: false);
        return value;
    }

    public void Write(ulong address, int size, ulong value)
    {
        if (!View.TryFind(address, out FlatRange range))
        {
            if (RejectsUnassigned) Log?.Rejected(null, address, size, write: true);
            return;
        }
        if ((ulong)size > range.End - address) { WriteAcross(address, size, value); return; }
        ulong offset = range.Offset + (address - range.Start);
        if (range.IsWritableRam) range.Ram!.Write(range.Region.RamOffset + offset, size, value);
        else if (range.Region.Bank is { } bank && range.Region.Kind != RegionKind.Ram
            && !range.TryRing(offset, value & Ones(size)))
        {
            if (Log is { SeesAccesses: true } log)
                log.Accessed(range.Region, address, offset, size, value & Ones(size), write: true);
            using (_lock.Hold()) WriteBank(range.Region, bank, offset, size, value);
        }
    }

    /// <summary>Copies bytes out, as a debugger does: RAM, ROM and registers byte by byte.</summary>
    public void Read(ulong address, Span<byte> data)
    {
        while (data.Length > 0)
        {
            if (View.TryFind(address, out FlatRange range) && range.Ram is { } ram)
            {
                int count = (int)Math.Min((ulong)data.Length, range.End - address);
                ram.Span(range.RamOffset + (address - range.Start), count).CopyTo(data);
                address += (ulong)count;
                data = data[count..];
                continue;
            }
            data[0] = (byte)Read(address, 1);
            address++;
            data = data[1..];
        }
    }

    public void Write(ulong address, ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            if (View.TryFind(address, out FlatRange range) && range.IsWritableRam)
            {
                int count = (int)Math.Min((ulong)data.Length, range.End - address);
                ulong offset = range.RamOffset + (address - range.Start);
                data[..count].CopyTo(range.Ram!.Span(offset, count));
                range.Ram!.MarkWritten(offset, (ulong)count);
                address += (ulong)count;
                data = data[count..];
                continue;
            }
            Write(address, 1, data[0]);
            address++;
            data = data[1..];
        }
    }

    /// <summary>The RAM behind an address and how many bytes follow it there; false for anything but (writable)
    /// RAM.</summary>
    public bool TryGetRam(ulong address, bool write, out GuestRam ram, out ulong offset, out ulong length)
    {
        if (View.TryFind(address, out FlatRange range) && range.Ram is { } found && (!write || range.IsWritableRam))
        {
            (ram, offset, length) = (found, range.RamOffset + (address - range.Start), range.End - address);
            return true;
        }
        (ram, offset, length) = (null!, 0, 0);
        return false;
    }

    void OnRootChanged()
    {
        if (_batches > 0) { _stale = true; return; }
        FlatView old = _view, now = FlatView.Of(Root);
        Volatile.Write(ref _view, now);
        ViewChanged?.Invoke(old, now);
    }

    ulong ReadBank(MemoryRegion region, ulong offset, int size)
    {
        AccessSizes sizes = region.Sizes;
        if (size < sizes.ValidMin || size > sizes.ValidMax)
        {
            Log?.Rejected(region, offset, size, write: false);
            return Ones(size);
        }
        if (size < sizes.ImplMin)
        {
            ulong inside = offset & (ulong)(sizes.ImplMin - 1);
            return region.Bank!.Read(offset - inside, sizes.ImplMin) >> (int)(inside * 8) & Ones(size);
        }
        if (size <= sizes.ImplMax) return region.Bank!.Read(offset, size) & Ones(size);
        ulong value = 0;
        for (int i = 0; i < size; i += sizes.ImplMax)
            value |= (region.Bank!.Read(offset + (ulong)i, sizes.ImplMax) & Ones(sizes.ImplMax)) << (i * 8);
        return value;
    }

    void WriteBank(MemoryRegion region, IRegisterBank bank, ulong offset, int size, ulong value)
    {
        AccessSizes sizes = region.Sizes == default ? AccessSizes.UpToQword : region.Sizes;
        if (size < sizes.ValidMin || size > sizes.ValidMax)
        {
            Log?.Rejected(region, offset, size, write: true);
            return;
        }
        value &= Ones(size);
        if (size < sizes.ImplMin)
        {
            ulong inside = offset & (ulong)(sizes.ImplMin - 1);
            bank.Write(offset - inside, sizes.ImplMin, value << (int)(inside * 8));
        }
        else if (size <= sizes.ImplMax) bank.Write(offset, size, value);
        else
            for (int i = 0; i < size; i += sizes.ImplMax)
                bank.Write(offset + (ulong)i, sizes.ImplMax, value >> (i * 8) & Ones(sizes.ImplMax));
    }

    ulong ReadAcross(ulong address, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++) value |= Read(address + (ulong)i, 1) << (i * 8);
        return value;
    }

    void WriteAcross(ulong address, int size, ulong value)
    {
        for (int i = 0; i < size; i++) Write(address + (ulong)i, 1, value >> (i * 8) & 0xFF);
    }

    static ulong Ones(int size) => ulong.MaxValue >> (64 - size * 8);

    public readonly struct BatchScope(AddressSpace space) : IDisposable
    {
        public void Dispose()
        {
            for (AddressSpace? each = space; each != null; each = each._above)
            {
                if (--each._batches > 0 || !each._stale) continue;
                each._stale = false;
                each.OnRootChanged();
            }
        }
    }
}
