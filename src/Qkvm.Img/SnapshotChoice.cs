using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Img;

/// <summary>-l: an image as one of its snapshots has it.</summary>
static class SnapshotChoice
{
    /// <param name="choice">snapshot.id=[ID],snapshot.name=[NAME], or one of both.</param>
    public static async Task ShowAsync(BlockDriver node, string choice)
    {
        IReadOnlyList<BlockSnapshot> all = node.Facts.Snapshots ?? [];
        BlockSnapshot? found;
        if (choice.StartsWith("snapshot.", StringComparison.Ordinal))
        {
            Options options = Options.Parse(choice, "-l");
            string? id = options.Nested("snapshot")?.Text("id"), name = options.Nested("snapshot")?.Text("name");
            options.Close();
            found = all.FirstOrDefault(s => (id == null || s.Id == id) && (name == null || s.Name == name));
        }
        else found = all.FirstOrDefault(s => s.Id == choice) ?? all.FirstOrDefault(s => s.Name == choice);
        if (node is not ISnapshots image || found == null)
            throw new ToolException("Failed to load snapshot: Can't find snapshot");
        try { await image.ShowSnapshotAsync(found.Id).ConfigureAwait(false); }
        catch (BlockException e) { throw new ToolException($"Failed to load snapshot: {e.Message}"); }
    }
}
