using Qkvm.Core.Block;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Copying;

/// <summary>What to copy and how.</summary>
/// <param name="Sources">One after the other they are the disk.</param>
/// <param name="Length">Bytes of the disk.</param>
sealed record CopyPlan(IReadOnlyList<BlockDriver> Sources, BlockDriver Target, long Length)
{
    // From file to file one reads while another writes; more only wait for each other at the file's own lock.
    const int FileWorkers = 2, ManyWorkers = 8;

    /// <summary>What is not written reads as zeros.</summary>
    public bool TargetIsZero { get; init; }

    /// <summary>The target lies over what the source lies over, and that has so many bytes: what the top of the source
    /// has not is not copied.</summary>
    public long? Backing { get; init; }

    /// <summary>Bytes of zeros that are worth leaving out; 0: everything is written.</summary>
    public int Sparse { get; init; } = 4096;

    public bool IsCompressed { get; init; }

    /// <summary>The kernel copies what lies in files as it is, and nobody looks for zeros in it.</summary>
    public bool UsesCopyRange { get; init; }

    /// <summary>Pieces are written as they come.</summary>
    public bool IsUnordered { get; init; }

    /// <summary>Pieces on the way at once.</summary>
    public int Workers { get; init; } = ManyWorkers;

    /// <summary>What cannot be read counts as zeros: its message goes here.</summary>
    public Action<string>? Salvage { get; init; }

    public CopyLimit Limit { get; init; } = new(0);

    /// <summary>As many as help: servers that take their time to answer, and compression, keep many busy.</summary>
    public static int WorkersFor(IEnumerable<BlockDriver> sources, BlockDriver target, bool isCompressed) =>
        !isCompressed && sources.Append(target).All(IsInFiles) ? FileWorkers : ManyWorkers;

    static bool IsInFiles(BlockDriver node) =>
        node is FileDriver || node.Children.Count > 0 && node.Children.All(child => IsInFiles(child.Node));

    /// <summary>Reads the disk, whichever sources it lies in.</summary>
    public async ValueTask ReadAsync(long offset, Memory<byte> data)
    {
        foreach (BlockDriver source in Sources)
        {
            int count = (int)Math.Clamp(source.Length - offset, 0, data.Length);
            if (count > 0) await source.ReadAsync(offset, new ScatterList(data[..count])).ConfigureAwait(false);
            data = data[count..];
            if (data.IsEmpty) return;
            offset += count - source.Length;
        }
    }
}
