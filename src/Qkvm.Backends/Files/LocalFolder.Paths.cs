using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>The way down.</summary>
public sealed partial class LocalFolder
{
    const int LongestPath = 4096, MostSteps = 16;                  // of a call; and how many calls

    bool _goesByName;                                              // not migrated: what this kernel has

    /// <summary>As where the kernel has no openat2(2), or a filter of system calls refuses it.</summary>
    public void GoByName() => _goesByName = true;

    /// <summary>A folder, from the root down.</summary>
    Descriptor Locate(Place folder, int steps = MostSteps)
    {
        if (folder.IsRoot) return new Descriptor(_root, isOwned: false);
        if (steps == 0) return new Descriptor(-Errno.NameTooLong);
        Span<byte> path = stackalloc byte[LongestPath];
        int start = path.Length;
        Place at = folder;
        while (!at.IsRoot && start >= at.Name.Length)
        {
            if (at.Folder is not { } above || _ownership.Hides(at.Name)) return new Descriptor(-Errno.NoEntry);
            start -= at.Name.Length;
            at.Name.CopyTo(path[start..]);
            if (at != folder) path[start + at.Name.Length - 1] = (byte)'/';
            at = above;
        }
        using Descriptor from = Locate(at, steps - 1);
        if (from.Failed) return new Descriptor(from.Fd);
        if (!_goesByName)
        {
            int fd = At.OpenBelow(from.Fd, path[start..]);
            if (fd is not (-Errno.NotBuilt or -Errno.Perm)) return new Descriptor(fd); // no kernel says EPERM here
            _goesByName = true;
        }
        return ByName(from.Fd, path[start..]);
    }

    /// <summary>Name by name, none of which may be a link.</summary>
    static Descriptor ByName(int from, Span<byte> path)
    {
        int at = from;
        while (true)
        {
            int end = path.IndexOfAny((byte)'/', (byte)0);
            bool isLast = path[end] == 0;
            path[end] = 0;
            int next = At.OpenFolder(at, path[..(end + 1)]);
            if (at != from) Libc.close(at);
            if (next < 0 || isLast) return new Descriptor(next);
            at = next;
            path = path[(end + 1)..];
        }
    }
}
