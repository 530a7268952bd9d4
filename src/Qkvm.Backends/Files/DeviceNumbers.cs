using Qkvm.Host;

namespace Qkvm.Backends.Files;

/// <summary>Numbers that name a file: its inode's, which is one file system's own. With multidevs=remap those of others
/// begin with a number for their file system.</summary>
sealed class DeviceNumbers(LocalFolder folder, ulong root)
{
    const int PrefixBits = 16;
    const int MostPrefixes = 1 << PrefixBits;

    readonly Lock _gate = new();                                   // several devices may share the folder
    readonly Dictionary<(ulong Device, ulong High), ulong> _prefixes = new() { [(root, 0)] = 0 };
    int _warned;

    public int Of(in FileStatus status, out ulong number)
    {
        number = status.Inode;
        if (folder.Others == OtherDevices.Remap) return Remap(status, out number);
        if (status.Device == root) return 0;
        bool isForbidden = folder.Others == OtherDevices.Forbid;
        if (Interlocked.Exchange(ref _warned, 1) == 0)
            folder.Warn(isForbidden ? "a file system mounted below the folder stays hidden (multidevs=forbid)"
                : "another file system is mounted below the folder, and inode numbers may be the same; "
                    + "multidevs=remap makes them differ");
        return isForbidden ? -Errno.NotSuchDevice : 0;
    }

    int Remap(in FileStatus status, out ulong number)
    {
        (ulong, ulong) key = (status.Device, status.Inode >> (64 - PrefixBits));
        number = 0;
        ulong prefix;
        lock (_gate)
        {
            if (!_prefixes.TryGetValue(key, out prefix))
            {
                if (_prefixes.Count >= MostPrefixes) return -Errno.TooManyFilesInSystem;
                _prefixes[key] = prefix = (ulong)_prefixes.Count;
            }
        }
        number = prefix << (64 - PrefixBits) | status.Inode & ulong.MaxValue >> PrefixBits;
        return 0;
    }
}
