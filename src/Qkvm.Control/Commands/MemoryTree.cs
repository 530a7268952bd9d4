using Qkvm.Control.Hmp;
using Qkvm.Core.Memory;

namespace Qkvm.Control.Commands;

/// <param name="Kind">"ram", "rom", "i/o", or "alias NAME @OFFSET".</param>
public sealed record RegionInfo(ulong Start, ulong End, int Priority, string Kind, string Name, bool Enabled,
    IReadOnlyList<RegionInfo> Children);

public sealed record AddressSpaceInfo(string Name, RegionInfo Root);

static class MemoryTree
{
    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<AddressSpaceInfo>>(null, null, (context, _) =>
        [
            new AddressSpaceInfo("memory", Describe(context.Machine.Board.Memory.Root, 0)),
            new AddressSpaceInfo("I/O", Describe(context.Machine.Board.Ports.Root, 0)),
        ])
    {
        Human = new("info mtree", "", "show memory tree", null, (monitor, spaces) =>
        {
            bool first = true;
            foreach (AddressSpaceInfo space in spaces)
            {
                monitor.Write($"{(first ? "" : "\n")}address-space: {space.Name}\n");
                Print(monitor, space.Root, 1);
                first = false;
            }
        }),
    };

    static RegionInfo Describe(MemoryRegion region, ulong at)
    {
        string kind = region.Kind switch
        {
            RegionKind.Ram => "ram",
            RegionKind.Rom => "rom",
            RegionKind.Alias => $"alias {region.Target!.Name} @{region.TargetOffset:x16}",
            _ => "i/o",
        };
        return new RegionInfo(at, at + region.Size - 1, region.Priority, kind, region.Name, region.Enabled,
            [.. region.Children.Select(child => Describe(child, at + child.Address))]);
    }

    static void Print(IMonitor monitor, RegionInfo region, int depth)
    {
        monitor.Write($"{new string(' ', depth * 2)}{region.Start:x16}-{region.End:x16} (prio {region.Priority}, " +
            $"{region.Kind}): "
            + $"{region.Name}{(region.Enabled ? "" : " [disabled]")}\n");
        foreach (RegionInfo child in region.Children) Print(monitor, child, depth + 1);
    }
}
