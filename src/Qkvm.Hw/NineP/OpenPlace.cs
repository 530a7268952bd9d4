using Qkvm.Core.Files;

namespace Qkvm.Hw.NineP;

/// <summary>A file that a client has opened. Its descriptor may be given back meanwhile, for others.</summary>
sealed class OpenPlace
{
    int _users = 1;                                                // its fid, and who reads and writes

    /// <param name="flags">With which it is opened again.</param>
    public OpenPlace(Place place, int flags, OpenFile file)
    {
        (Place, Flags, File) = (place, flags, file);
        Node = new LinkedListNode<OpenPlace>(this);
    }

    public Place Place { get; }
    public int Flags { get; }
    public LinkedListNode<OpenPlace> Node { get; }

    /// <summary>Null while its descriptor is given back.</summary>
    public OpenFile? File { get; set; }

    /// <summary>Which file it was when that happened.</summary>
    public (ulong Device, ulong Inode) Identity { get; set; }

    /// <summary>It cannot be opened again: its name is gone.</summary>
    public bool IsPinned { get; set; }

    public bool IsBusy => Volatile.Read(ref _users) > 1;

    public void Hold() => Interlocked.Increment(ref _users);

    /// <summary>From any thread: ends a use; the last closes the file.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref _users) == 0) File?.Dispose();
    }
}

/// <summary>What may take time, for any thread.</summary>
/// <param name="Place">Held until it is done.</param>
/// <param name="Until">It may begin when this has completed; null: now.</param>
readonly record struct SlowWork(OpenPlace Place, OpenFile File, Message What, long Offset, long Count,
    bool DataAlone = false, Task? Until = null);
