using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qkvm.Core.Block.Images;

/// <summary>What people are told of an image: <c>qemu-img info</c>, <c>info block -v</c>.</summary>
/// <param name="FileName">As typed, or as the image above it names it.</param>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="FullBackingFile">The backing file's path from here; null without one.</param>
public sealed record ImageDescription(string FileName, string Format, long Size, ImageFacts Facts,
    string? FullBackingFile)
{
    const int Indent = 4;

    /// <summary>An image is no friend: what would move the terminal's cursor is not shown.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append($"image: {FileName}\nfile format: {Format}\n");
        text.Append($"virtual size: {ByteCount.Text(Size)} ({Size} bytes)\n");
        text.Append($"disk size: {(Facts.ActualSize is { } actual ? ByteCount.Text(actual) : "unavailable")}\n");
        if (Facts.IsEncrypted) text.Append("encrypted: yes\n");
        if (Facts.ClusterSize is { } cluster) text.Append($"cluster_size: {cluster}\n");
        if (Facts.IsDirty) text.Append("cleanly shut down: no\n");
        if (Facts.BackingFile is { } backing)
        {
            text.Append($"backing file: {SnapshotTable.Plain(backing)}");
            if (FullBackingFile != backing)
                text.Append(FullBackingFile == null ? " (cannot determine actual path)"
                    : $" (actual path: {SnapshotTable.Plain(FullBackingFile)})");
            text.Append('\n');
            if (Facts.BackingFormat is { } format)
                text.Append($"backing file format: {SnapshotTable.Plain(format)}\n");
        }
        if (Facts.Snapshots is { Count: > 0 } snapshots)
            text.Append("Snapshot list:\n").Append(SnapshotTable.Text(snapshots));
        if (Facts.Specific is { Count: > 0 } specific)
        {
            text.Append("Format specific information:\n");
            Append(text, specific, Indent);
        }
        return text.ToString();
    }

    static void Append(StringBuilder text, JsonObject members, int depth)
    {
        foreach ((string name, JsonNode? value) in members) Append(text, name.Replace('-', ' '), value, depth);
    }

    static void Append(StringBuilder text, string name, JsonNode? value, int depth)
    {
        text.Append(' ', depth).Append(name).Append(':');
        switch (value)
        {
            case JsonObject members:
                text.Append('\n');
                Append(text, members, depth + Indent);
                break;
            case JsonArray items:
                text.Append('\n');
                for (int i = 0; i < items.Count; i++) Append(text, $"[{i}]", items[i], depth + Indent);
                break;
            case null: text.Append(" null\n"); break;
            default:
                string plain = value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>()
                    : value.ToJsonString();
                text.Append(' ').Append(SnapshotTable.Plain(plain)).Append('\n');
                break;
        }
    }
}
