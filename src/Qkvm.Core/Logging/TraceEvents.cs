using System.IO.Enumeration;

namespace Qkvm.Core.Logging;

/// <summary>Something that happens often, by QEMU's name; told while it is enabled. Any thread.</summary>
public sealed class TraceEvent(string name, Action changed)
{
    volatile bool _enabled;

    public string Name { get; } = name;

    public bool Enabled
    {
        get => _enabled;
        set { _enabled = value; changed(); }
    }
}

/// <summary>All of one machine.</summary>
public sealed class TraceEvents
{
    public TraceEvents(Action changed)
    {
        MemoryRead = Add("memory_region_ops_read", changed);
        MemoryWrite = Add("memory_region_ops_write", changed);
        SerialRead = Add("serial_read", changed);
        SerialWrite = Add("serial_write", changed);
        PicRead = Add("pic_ioport_read", changed);
        PicWrite = Add("pic_ioport_write", changed);
        PciRead = Add("pci_cfg_read", changed);
        PciWrite = Add("pci_cfg_write", changed);
        RunStateSet = Add("runstate_set", changed);
        StateNotify = Add("vm_state_notify", changed);
        HmpCommand = Add("handle_hmp_command", changed);
        QmpCommand = Add("handle_qmp_command", changed);
    }

    readonly List<TraceEvent> _all = [];

    public TraceEvent MemoryRead { get; }
    public TraceEvent MemoryWrite { get; }
    public TraceEvent SerialRead { get; }
    public TraceEvent SerialWrite { get; }
    public TraceEvent PicRead { get; }
    public TraceEvent PicWrite { get; }
    public TraceEvent PciRead { get; }
    public TraceEvent PciWrite { get; }
    public TraceEvent RunStateSet { get; }
    public TraceEvent StateNotify { get; }
    public TraceEvent HmpCommand { get; }
    public TraceEvent QmpCommand { get; }

    public IReadOnlyList<TraceEvent> All => _all;

    /// <summary>Those that a pattern with * and ? names.</summary>
    public IEnumerable<TraceEvent> Match(string pattern) =>
        _all.Where(known => FileSystemName.MatchesSimpleExpression(pattern, known.Name, ignoreCase: false));

    /// <summary>True where the word names many, perhaps none.</summary>
    public static bool IsPattern(string word) => word.AsSpan().ContainsAny('*', '?');

    /// <summary>Switches what "-trace" names: a pattern, or with a minus in front, off.</summary>
    /// <returns>False: the name is no pattern and nobody has it.</returns>
    public bool Request(string word)
    {
        bool off = word.StartsWith('-');
        string pattern = off ? word[1..] : word;
        bool any = false;
        foreach (TraceEvent found in Match(pattern)) (found.Enabled, any) = (!off, true);
        return any || IsPattern(pattern);
    }

    TraceEvent Add(string name, Action changed)
    {
        var made = new TraceEvent(name, changed);
        _all.Add(made);
        return made;
    }
}
