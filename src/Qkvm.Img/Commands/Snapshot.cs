using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>snapshot: lists, makes, goes back to and deletes the states that an image keeps.</summary>
static class Snapshot
{
    static readonly Option List = new('l', "list"), Apply = new('a', "apply", true),
        Make = new('c', "create", true), Delete = new('d', "delete", true);

    static readonly Option[] Actions = [List, Apply, Make, Delete];

    public static readonly Subcommand Command = new("snapshot",
        "[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename",
        [Option.Object, Option.ImageOpts, Option.ForceShare, Option.Quiet, Option.Format, .. Actions], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        (Option Option, string Value)[] actions = [.. arguments.Given.Where(given => Actions.Contains(given.Option))];
        if (actions.Length > 1) throw new ToolException("Cannot mix '-l', '-a', '-c', '-d'", hasHint: true);
        string image = tool.OneImage(arguments);
        if (actions.Length == 0) return 0;
        (Option action, string name) = actions[0];
        BlockDriver node = tool.Open(arguments, image, new ImageOpening { IsWritable = action != List });
        IReadOnlyList<BlockSnapshot> all = node.Facts.Snapshots ?? [];
        if (action == List)
        {
            if (all.Count > 0) tool.Output.Write("Snapshot list:\n" + SnapshotTable.Text(all));
            return 0;
        }
        BlockSnapshot? found = all.FirstOrDefault(s => s.Id == name) ?? all.FirstOrDefault(s => s.Name == name);
        if (action == Make) await MakeAsync(node, name).ConfigureAwait(false);
        else if (action == Apply) await ApplyAsync(node, found, name).ConfigureAwait(false);
        else if (found == null) throw new ToolException($"Could not delete snapshot '{name}': snapshot not found");
        else await TryAsync(() => ((ISnapshots)node).DeleteSnapshotAsync(found.Id),
            $"Could not delete snapshot '{name}': ").ConfigureAwait(false);
        await node.FlushAsync().ConfigureAwait(false);
        return 0;
    }

    static async Task MakeAsync(BlockDriver node, string name)
    {
        if (node is not ISnapshots image)
            throw new ToolException($"Could not create snapshot '{name}': -95 (Operation not supported)");
        DateTimeOffset now = DateTimeOffset.UtcNow;
        const int nanosecondsPerTick = 100;
        var snapshot = new BlockSnapshot("", name, 0, (uint)now.ToUnixTimeSeconds(),
            (uint)(now.Ticks % TimeSpan.TicksPerSecond * nanosecondsPerTick), 0, InstructionCount: 0);
        await TryAsync(() => image.CreateSnapshotAsync(snapshot), $"Could not create snapshot '{name}': ")
            .ConfigureAwait(false);
    }

    static async Task ApplyAsync(BlockDriver node, BlockSnapshot? found, string name)
    {
        string prefix = $"Could not apply snapshot '{name}': ";
        if (node is not ISnapshots image)
            throw new ToolException($"{prefix}Block format '{node.FormatName}' does not support internal snapshots");
        if (found == null) throw new ToolException($"{prefix}Failed to load snapshot: No such file or directory");
        await TryAsync(() => image.ApplySnapshotAsync(found.Id), prefix).ConfigureAwait(false);
    }

    static async ValueTask TryAsync(Func<ValueTask> work, string prefix)
    {
        try { await work().ConfigureAwait(false); }
        catch (BlockException e) { throw new ToolException(prefix + e.Message); }
    }
}
