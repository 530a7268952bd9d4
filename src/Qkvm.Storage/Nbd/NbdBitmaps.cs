using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Nbd;

/// <summary>Dirty bitmaps that an export is to show.</summary>
public static class NbdBitmaps
{
    /// <summary>Those of a node, or of the next that it lies over.</summary>
    /// <param name="find">Finds nodes that are named with them; null where none is.</param>
    /// <exception cref="ConfigurationException">One cannot be shown.</exception>
    public static IReadOnlyList<IBitmap> Find(BlockDriver node, IEnumerable<BitmapName> names, bool isWritable,
        Func<string, BlockDriver?>? find = null) =>
        [.. names.Select(name => name.Node == null ? Find(node, name.Name, isWritable)
            : OfNode(find?.Invoke(name.Node) ?? throw new ConfigurationException(
                $"Cannot find device='{name.Node}' nor node-name='{name.Node}'"), name.Name, isWritable))];

    static IBitmap Find(BlockDriver top, string name, bool isWritable)
    {
        for (BlockDriver? node = top; node != null; node = node.Below)
            if (node.DirtyBitmaps.Any(one => one.Name == name)) return OfNode(node, name, isWritable);
        throw new ConfigurationException($"Bitmap '{name}' is not found");
    }

    static IBitmap OfNode(BlockDriver node, string name, bool isWritable)
    {
        IBitmap bitmap = node.DirtyBitmaps.FirstOrDefault(one => one.Name == name)
            ?? throw new ConfigurationException($"Dirty bitmap '{name}' not found");
        if (bitmap.IsInconsistent)
            throw new ConfigurationException($"Bitmap '{name}' is inconsistent and cannot be used\n"
                + "Try block-dirty-bitmap-remove to delete this bitmap from disk");
        if (!isWritable && !node.IsReadOnly && bitmap.IsEnabled)   // clients would see it change
            throw new ConfigurationException($"Enabled bitmap '{name}' incompatible with readonly export");
        return bitmap;
    }
}
