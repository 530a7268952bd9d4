namespace Qkvm.Core.Block;

/// <summary>What a user of a node may do with it. The bits are the offsets of QEMU's lock bytes on an image
/// file.</summary>
[Flags]
public enum BlockRights { None = 0, ConsistentRead = 1, Write = 2, WriteUnchanged = 4, Resize = 8 }

/// <summary>What a user of a node needs and what it forbids all others, in this program and in others.</summary>
public readonly record struct BlockUse(BlockRights Needs, BlockRights Forbids)
{
    const BlockRights WriteAndResize = BlockRights.Write | BlockRights.Resize;

    /// <summary>A guest's disk. With share-rw=on others may write too.</summary>
    public static BlockUse Disk(bool readOnly, bool shareWrite = false) => new(
        readOnly ? BlockRights.ConsistentRead : BlockRights.ConsistentRead | BlockRights.Write,
        shareWrite ? BlockRights.None : BlockRights.Write);

    /// <summary>The file of a format with metadata: nobody else may change it in any way.</summary>
    public static BlockUse Format(bool readOnly) => new(
        readOnly ? BlockRights.ConsistentRead : BlockRights.ConsistentRead | WriteAndResize, WriteAndResize);

    /// <summary>What an image lies over: it is to stay as it is while somebody counts on the image.</summary>
    /// <param name="above">How the image is used.</param>
    public static BlockUse Backing(BlockUse above) => new(above.Needs & BlockRights.ConsistentRead,
        (above.Forbids & BlockRights.Write) != 0 ? WriteAndResize : BlockRights.None);

    public static BlockUse operator +(BlockUse a, BlockUse b) => new(a.Needs | b.Needs, a.Forbids | b.Forbids);

    /// <summary>The rights that one needs and the other forbids.</summary>
    public BlockRights ConflictWith(BlockUse other) => Needs & other.Forbids | Forbids & other.Needs;
}
