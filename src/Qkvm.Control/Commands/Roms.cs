using Qkvm.Core.Memory;

namespace Qkvm.Control.Commands;

/// <summary>info roms: where the guest sees ROM in memory, each block once.</summary>
static class Roms
{
    public static readonly Command Command = new HumanCommand("info roms", "", "show roms", static (monitor, words) =>
    {
        words.End();
        var seen = new HashSet<MemoryRegion>();
        foreach (FlatRange range in monitor.Context.Machine.Board.Memory.View.Ranges.ToArray().Reverse())
            if (range.Region.Kind == RegionKind.Rom && range.Offset == 0 && seen.Add(range.Region))
                monitor.Write($"addr={range.Start:x16} size=0x{range.Region.Size:x6} mem=rom "
                    + $"name=\"{range.Region.Name}\"\n");
    });
}
