namespace Qkvm.Core.Block.Images;

/// <summary>A driver whose image can hold compressed clusters.</summary>
public interface ICompressedWrites
{
    /// <summary>It takes no other writes.</summary>
    bool IsCompressedOnly => false;

    /// <summary>Writes one cluster; compresses on the caller's thread, and many may call at once.</summary>
    /// <param name="offset">A multiple of <see cref="ImageFacts.ClusterSize"/>.</param>
    /// <param name="buffers">A whole cluster, or less at the end of the disk.</param>
    ValueTask WriteCompressedAsync(long offset, ScatterList buffers);
}
