using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Core.Files;

/// <summary>A file or folder of a <see cref="SharedFolder"/> that is open. Each call returns 0 or more, or minus an
/// errno.</summary>
public abstract class OpenFile : IDisposable
{
    // From any thread, several at once

    /// <param name="waits">False: EAGAIN where the disk would have to be waited for.</param>
    public abstract long Read(long offset, in ScatterList target, bool waits);
    public abstract long Write(long offset, in ScatterList source);
    public abstract int Synchronize(bool dataAlone);

    // One thread at a time

    public abstract int Stat(out FileStatus status);

    /// <summary>Entries of a folder from a position on, struct linux_dirent64 after struct; 0: the end.</summary>
    /// <param name="position">0, or d_off of the entry before.</param>
    public abstract int ReadFolder(long position, Span<byte> entries);

    public abstract void Dispose();
}
