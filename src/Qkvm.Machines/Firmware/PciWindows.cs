using Qkvm.Core.Acpi;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Firmware;

/// <summary>The addresses of a root bus, as firmware has placed its functions and what is behind its bridges: what an
/// expander bridge forwards, and the host bridge does not.</summary>
sealed class PciWindows
{
    const ulong FourGiB = PcMemory.FourGiB;

    readonly List<(ulong First, ulong Last)> _io = [], _low = [], _high = [];

    public PciWindows(params IEnumerable<PciBus> roots)
    {
        foreach (PciDevice device in roots.SelectMany(root => root.Devices)) Add(device);
    }

    /// <summary>Resources of an expander bridge: these, and its buses.</summary>
    public static AmlResource[] Of(PciBus root)
    {
        var windows = new PciWindows(root);
        return
        [
            .. Join(windows._io).Select(range => AmlResource.IoWindow((ushort)range.First, (ushort)range.Last)),
            .. Join(windows._low).Select(range => AmlResource.MemoryWindow32((uint)range.First, (uint)range.Last)),
            .. Join(windows._high).Select(range => AmlResource.MemoryWindow64(range.First, range.Last)),
            AmlResource.BusNumbers((ushort)root.Number, (ushort)LastBus(root)),
        ];
    }

    /// <summary>What these leave of a window.</summary>
    public IEnumerable<AmlResource> Rest(ulong first, ulong last) => Without(last < FourGiB ? _low : _high, first, last)
        .Select(range => last < FourGiB ? AmlResource.MemoryWindow32((uint)range.First, (uint)range.Last)
            : AmlResource.MemoryWindow64(range.First, range.Last));

    /// <summary>As before, of ports.</summary>
    public IEnumerable<AmlResource> RestOfPorts(ushort first, ushort last) => Without(_io, first, last)
        .Select(range => AmlResource.IoWindow((ushort)range.First, (ushort)range.Last));

    /// <summary>The highest number of a root and the buses behind it.</summary>
    static int LastBus(PciBus root) => root.AllDevices.OfType<PciBridge>()
        .Select(bridge => bridge.SubordinateNumber).Append(root.Number).Max();

    void Add(PciDevice device)
    {
        foreach (MemoryRegion? region in device.BarRegions)
            if (region is { Parent: not null } && region.Parent == device.Bus.IoSpace)
                _io.Add((region.Address, region.Address + region.Size - 1));
            else if (region is { Parent: not null }) AddMemory(region.Address, region.Address + region.Size - 1);
        if (device is not PciBridge bridge) return;
        if (bridge.IoRange is { Base: > 0 } io && io.Base <= io.Limit && io.Limit <= ushort.MaxValue)
            _io.Add(io);
        foreach ((ulong first, ulong last) in new[] { bridge.MemoryRange, bridge.PrefetchableRange })
            if (first > 0 && first <= last) AddMemory(first, last);
    }

    void AddMemory(ulong first, ulong last)
    {
        if (last < FourGiB) _low.Add((first, last));
        else if (first >= FourGiB) _high.Add((first, last));
    }

    /// <summary>In their order; those that touch are one.</summary>
    static List<(ulong First, ulong Last)> Join(IEnumerable<(ulong First, ulong Last)> ranges)
    {
        var joined = new List<(ulong First, ulong Last)>();
        foreach (var range in ranges.Order())
            if (joined.Count > 0 && range.First <= joined[^1].Last + 1)
                joined[^1] = (joined[^1].First, Math.Max(joined[^1].Last, range.Last));
            else joined.Add(range);
        return joined;
    }

    static IEnumerable<(ulong First, ulong Last)> Without(IEnumerable<(ulong, ulong)> taken, ulong first, ulong last)
    {
        foreach ((ulong from, ulong to) in Join(taken))
        {
            if (to < first || from > last) continue;
            if (from > first) yield return (first, from - 1);
            first = to + 1;
        }
        if (first <= last) yield return (first, last);
    }
}
