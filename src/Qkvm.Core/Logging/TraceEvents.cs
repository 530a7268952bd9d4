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

/// <summary>All of one machine: a new one is a property, and stands in All.</summary>
/// <param name="changed">Some event is switched.</param>
public sealed class TraceEvents(Action changed)
{
    public TraceEvent MemoryRead { get; } = new("memory_region_ops_read", changed);
    public TraceEvent MemoryWrite { get; } = new("memory_region_ops_write", changed);
    public TraceEvent SerialRead { get; } = new("serial_read", changed);
    public TraceEvent SerialWrite { get; } = new("serial_write", changed);
    public TraceEvent PicRead { get; } = new("pic_ioport_read", changed);
    public TraceEvent PicWrite { get; } = new("pic_ioport_write", changed);
    public TraceEvent PciRead { get; } = new("pci_cfg_read", changed);
    public TraceEvent PciWrite { get; } = new("pci_cfg_write", changed);
    public TraceEvent RunStateSet { get; } = new("runstate_set", changed);
    public TraceEvent StateNotify { get; } = new("vm_state_notify", changed);
    public TraceEvent HmpCommand { get; } = new("handle_hmp_command", changed);
    public TraceEvent QmpCommand { get; } = new("handle_qmp_command", changed);

    public IReadOnlyList<TraceEvent> All =>
    [
        MemoryRead, MemoryWrite, SerialRead, SerialWrite, PicRead, PicWrite, PciRead, PciWrite, RunStateSet,
        StateNotify, HmpCommand, QmpCommand,
    ];

    /// <summary>Those that a pattern with * and ? names.</summary>
    public IEnumerable<TraceEvent> Match(string pattern) =>
        All.Where(known => FileSystemName.MatchesSimpleExpression(pattern, known.Name, ignoreCase: false));

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
}
