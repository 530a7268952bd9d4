using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Images;

/// <summary>What an image says of a run of guest bytes.</summary>
enum RunKind
{
    /// <summary>Nothing: the backing node has them, or they are zeros.</summary>
    Unallocated,
    Zero,
    Data,

    /// <summary>They are packed: the format itself unpacks them.</summary>
    Packed,
}

/// <summary>Guest bytes that are of one kind and lie together.</summary>
/// <param name="Host">Of Data: the first byte in <paramref name="File"/>.</param>
/// <param name="File">Of Data: where they lie; null for the image's own file.</param>
readonly record struct ImageRun(RunKind Kind, long Length, long Host = 0, BlockDriver? File = null);
