using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Nbd;

/// <summary>Dirty bitmaps that an export is to show.</summary>
public static class NbdBitmaps
{
    /// <summary>Those of a node, or of the next that it lies over.</summary>
    /// <exception cref="ConfigurationException">One cannot be shown.</exception>
    public static IReadOnlyList<IBitmap> Find(BlockDriver node, IEnumerable<string> names, bool isWritable) =>
        [.. names.Select(name => Find(node, name, isWritable))];

    static IBitmap Find(BlockDriver top, string name, bool isWritable)
    {
        for (BlockDriver? node = top; node != null; node = node.Below)
        {
            if (node.DirtyBitmaps.FirstOrDefault(one => one.Name == name) is not { } bitmap) continue;
            if (bitmap.IsInconsistent)
                throw new ConfigurationException($"Bitmap '{name}' is inconsistent and cannot be used\n"
                    + "Try block-dirty-bitmap-remove to delete this bitmap from disk");
            if (!isWritable && !node.IsReadOnly && bitmap.IsEnabled) // clients would see it change
                throw new ConfigurationException($"Enabled bitmap '{name}' incompatible with readonly export");
            return bitmap;
        }
        throw new ConfigurationException($"Bitmap '{name}' is not found");
    }
}
