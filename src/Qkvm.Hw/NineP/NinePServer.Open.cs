using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Open files, and their descriptors: those that nobody has used for longest are given back where a new one
/// needs room.</summary>
public sealed partial class NinePServer
{
    const int AtOnce = 16;                                         // given back where one is needed

    readonly LinkedList<OpenPlace> _open = [];                     // the one used last is the last
    int _descriptors;

    /// <summary>Descriptors that the client's files have.</summary>
    public int Descriptors => _descriptors;

    /// <summary>Opens a fid's file.</summary>
    int OpenFid(Fid fid, int flags)
    {
        if (fid.Open != null || fid.Attribute != null) return -Errno.Invalid;
        if ((flags & Libc.OAccMode) == Libc.OAccMode) return -Errno.Invalid;
        bool writes = (flags & Libc.OAccMode) != Libc.ORdOnly || (flags & Libc.OTrunc) != 0;
        if (writes && folder.IsReadOnly) return -Errno.ReadOnly;
        int done = MakeRoom();
        if (done < 0 || (done = folder.Open(fid.Place, flags, out OpenFile? file)) < 0) return done;
        Enter(fid, flags, file!);
        return 0;
    }

    void Enter(Fid fid, int flags, OpenFile file)
    {
        var open = new OpenPlace(fid.Place, flags & ~Libc.OTrunc, file);
        fid.Open = open;
        _open.AddLast(open.Node);
        _descriptors++;
    }

    void Leave(OpenPlace open)
    {
        _open.Remove(open.Node);
        if (open.File != null) _descriptors--;
        open.Release();
    }

    /// <summary>The open file of a fid; null with an errno where it cannot be opened again.</summary>
    OpenFile? Use(OpenPlace open, out int errno)
    {
        errno = 0;
        _open.Remove(open.Node);
        _open.AddLast(open.Node);
        if (open.File is { } there) return there;
        if ((errno = MakeRoom()) < 0) return null;
        if ((errno = folder.Open(open.Place, open.Flags, out OpenFile? file)) < 0) return null;
        if (file!.Stat(out FileStatus status) < 0 || (status.Device, status.Inode) != open.Identity)
        {
            file.Dispose();
            errno = -Errno.Stale;                                  // another has its name
            return null;
        }
        _descriptors++;
        open.File = file;
        return file;
    }

    /// <summary>What a fid's file is asked by: itself where it is open, or where it has no name any more and another
    /// fid has it open.</summary>
    OpenFile? FileOf(Fid fid)
    {
        if (fid.Open is { } open) return Use(open, out _);
        if (!fid.Place.IsGone) return null;
        foreach (OpenPlace other in _open)
            if (other.Place == fid.Place && other.File is { } file) return file;
        return null;
    }

    /// <summary>There is a descriptor left for a file.</summary>
    int MakeRoom()
    {
        if (_descriptors < folder.MostOpen) return 0;
        int given = 0;
        for (LinkedListNode<OpenPlace>? node = _open.First; node != null && given < AtOnce; node = node.Next)
        {
            OpenPlace open = node.Value;
            if (open.File is not { } file || open.IsPinned || open.IsBusy) continue;
            if (file.Stat(out FileStatus status) < 0) continue;
            open.Identity = (status.Device, status.Inode);
            open.File = null;
            file.Dispose();
            _descriptors--;
            given++;
        }
        return given > 0 ? 0 : -Errno.TooManyFiles;
    }

    /// <summary>A name is about to go: those who have the file open keep it.</summary>
    void Pin(Place folderOf, ReadOnlySpan<byte> name)
    {
        if (PlaceTree.Known(folderOf, name) is not { } place) return;
        for (LinkedListNode<OpenPlace>? node = _open.First, next; node != null; node = next)
        {
            next = node.Next;                                      // Use puts it at the end
            OpenPlace open = node.Value;
            if (open.Place != place || open.IsPinned) continue;
            open.IsPinned = true;
            if (open.File == null) Use(open, out _);
        }
    }
}
