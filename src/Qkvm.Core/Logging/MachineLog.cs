using System.Runtime.CompilerServices;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;

namespace Qkvm.Core.Logging;

/// <summary>What -d, -D and -trace ask for, changed by monitors while the machine runs. Asking costs one read; lines
/// are made only where somebody asked. Any thread writes.</summary>
/// <param name="standard">Where lines go without a file.</param>
/// <param name="milliseconds">The clock that bounds what guests can cause; the host's by default.</param>
public sealed class MachineLog : IDisposable
{
    /// <summary>Lines about guests' mistakes that one source has in one second; of others only the number is
    /// told.</summary>
    public const int MostLines = 100;

    const long Second = 1000;

    readonly Lock _gate = new();
    readonly TextWriter _standard;
    readonly Func<long> _milliseconds;
    readonly Dictionary<string, Allowance> _allowances = [];
    LogFile _file;
    string? _template;
    int _items;
    volatile bool _seesAccesses;

    public MachineLog(TextWriter standard, Func<long>? milliseconds = null)
    {
        (_standard, _milliseconds) = (standard, milliseconds ?? (static () => Environment.TickCount64));
        _file = new LogFile(standard);
        Events = new TraceEvents(Follow);
    }

    /// <summary>Of one source in the second that began at Since.</summary>
    record struct Allowance(long Since, int Lines, int Dropped);

    public TraceEvents Events { get; }

    /// <summary>-dfilter; null: all addresses.</summary>
    public AddressFilter? Filter { get; init; }

    public LogItem Items => (LogItem)Volatile.Read(ref _items);

    /// <summary>Other items are chosen: who makes their lines begins or ends. On the main loop, with the machine
    /// lock.</summary>
    public event Action? Changed;

    /// <summary>Some event of register accesses is on.</summary>
    public bool SeesAccesses => _seesAccesses;

    public bool Has(LogItem item) => (Items & item) != 0;

    /// <summary>What the command line says, before anything runs.</summary>
    /// <exception cref="ConfigurationException">As QEMU words it.</exception>
    public void Start(string? template, LogItem items)
    {
        if (template != null || (items & LogItem.Tid) != 0) Reopen(template, (items & LogItem.Tid) != 0);
        _items = (int)items;
    }

    /// <summary>Exactly these from now on.</summary>
    /// <exception cref="ConfigurationException">Files for each thread have no template.</exception>
    public void Select(LogItem items)
    {
        lock (_gate)
        {
            bool perThread = (items & LogItem.Tid) != 0;
            if (perThread != Has(LogItem.Tid)) Reopen(_template, perThread);
            Volatile.Write(ref _items, (int)items);
        }
        Changed?.Invoke();
    }

    /// <summary>Lines go to a file from now on, which is emptied; null: to the standard place.</summary>
    /// <exception cref="ConfigurationException">As QEMU words it; nothing has changed then.</exception>
    public void OpenFile(string? template)
    {
        lock (_gate) Reopen(template, Has(LogItem.Tid));
    }

    /// <param name="text">Whole lines.</param>
    public void Write(string text)
    {
        lock (_gate) _file.Write(text);
    }

    /// <summary>A guest did what makes no sense: told under -d guest_errors, within bounds.</summary>
    /// <param name="source">Of a number of names that guests cannot enlarge.</param>
    public void GuestError(string source, string line) => Bounded(LogItem.GuestErrors, source, line);

    /// <summary>A guest asked for what real hardware has and we have not; as <see cref="GuestError"/>.</summary>
    public void Unimplemented(string source, string line) => Bounded(LogItem.Unimp, source, line);

    public void Dispose()
    {
        lock (_gate)
        {
            foreach ((string source, Allowance allowance) in _allowances) TellDropped(source, allowance.Dropped);
            _allowances.Clear();
            _file.Dispose();
            _file = new LogFile(_standard);
        }
    }

    void Reopen(string? template, bool perThread)
    {
        LogFile next = template != null ? new LogFile(template, perThread, _standard)
            : perThread ? throw new ConfigurationException("Filename template with '%d' required for 'tid'")
            : new LogFile(_standard);
        _file.Dispose();
        (_file, _template) = (next, template);
    }

    void Bounded(LogItem item, string source, string line)
    {
        if (!Has(item)) return;
        lock (_gate)
        {
            long now = _milliseconds();
            Allowance allowance = _allowances.GetValueOrDefault(source);
            if (now - allowance.Since >= Second)
            {
                TellDropped(source, allowance.Dropped);
                allowance = new Allowance(now, 0, 0);
            }
            bool isOver = allowance.Lines >= MostLines;
            _allowances[source] = isOver ? allowance with { Dropped = allowance.Dropped + 1 }
                : allowance with { Lines = allowance.Lines + 1 };
            if (!isOver) _file.Write($"{line}\n");
        }
    }

    void TellDropped(string source, int count)
    {
        if (count > 0) _file.Write($"{source}: {count} more lines left out\n");
    }

    // Accesses to registers

    void Follow() => _seesAccesses = Events.MemoryRead.Enabled || Events.MemoryWrite.Enabled
        || Events.SerialRead.Enabled || Events.SerialWrite.Enabled || Events.PicRead.Enabled
        || Events.PicWrite.Enabled;

    /// <summary>Nobody answers at this address, or not to accesses of this size.</summary>
    /// <param name="region">Null: there is none.</param>
    internal void Rejected(MemoryRegion? region, ulong offset, int size, bool write)
    {
        if (!Has(LogItem.GuestErrors)) return;
        string reason = region == null ? "rejected"
            : $"invalid size (min:{region.Sizes.ValidMin} max:{region.Sizes.ValidMax})";
        GuestError(region?.Name ?? "unassigned memory", $"Invalid {(write ? "write" : "read")} at addr 0x{offset:X}, "
            + $"size {size}, region '{region?.Name ?? "(null)"}', reason: {reason}");
    }

    internal void Accessed(MemoryRegion region, ulong address, ulong offset, int size, ulong value, bool write)
    {
        if ((write ? Events.MemoryWrite : Events.MemoryRead) is { Enabled: true } any)
            Write($"{any.Name} cpu {VCpuRunner.Current} mr 0x{RuntimeHelpers.GetHashCode(region):x} "
                + $"addr 0x{address:x} value 0x{value:x} size {size} name '{region.Name}'\n");
        string verb = write ? "write" : "read";
        switch (region.Traces)
        {
            case RegionTraces.Serial when (write ? Events.SerialWrite : Events.SerialRead) is { Enabled: true } e:
                Write($"{e.Name} {verb} addr 0x{offset:x2} val 0x{value:x2}\n");
                break;
            case RegionTraces.PicMaster or RegionTraces.PicSlave
                when (write ? Events.PicWrite : Events.PicRead) is { Enabled: true } e:
                Write($"{e.Name} master {(region.Traces == RegionTraces.PicMaster ? 1 : 0)} addr 0x{offset:x} "
                    + $"val 0x{value:x}\n");
                break;
        }
    }
}

/// <summary>Whose events tell of accesses to a region, beside memory_region_ops_read and
/// memory_region_ops_write.</summary>
public enum RegionTraces { None, Serial, PicMaster, PicSlave }
