using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Names: 9P2000.L makes, links, moves and removes them.</summary>
public sealed partial class NinePServer
{
    const int Busy = -16;                                          // EBUSY: of the root

    int MakeFolder(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        uint mode = message.Dword(), group = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        done = folder.MakeFolder(fid.Place, name, new NewFile(mode & 0xFFF, fid.User, group));
        return done < 0 ? done : AnswerChild(fid, name, ref answer);
    }

    int MakeNode(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        uint mode = message.Dword(), major = message.Dword(), minor = message.Dword(), group = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        done = folder.MakeNode(fid.Place, name, new NewFile(mode & 0xFFFF, fid.User, group),
            DeviceOf(major, minor));
        return done < 0 ? done : AnswerChild(fid, name, ref answer);
    }

    int Symlink(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text(), target = message.Text();
        uint group = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done >= 0) done = MakeLink(fid, name, target, group);
        return done < 0 ? done : AnswerChild(fid, name, ref answer);
    }

    int MakeLink(Fid fid, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target, uint group)
    {
        const int Longest = 4095;                                  // PATH_MAX without its NUL
        if (target.Length > Longest) return -Errno.NameTooLong;
        if (target.Length == 0 || target.Contains((byte)0)) return -Errno.Invalid;
        Span<byte> ended = stackalloc byte[Longest + 1];
        target.CopyTo(ended);
        ended[target.Length] = 0;
        return folder.MakeLink(fid.Place, name, ended[..(target.Length + 1)], new NewFile(0, fid.User, group));
    }

    int ReadLink(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        Span<byte> target = stackalloc byte[4096];
        int length = folder.ReadLink(fid.Place, target);
        if (length < 0) return length;
        answer.Text(target[..length]);
        return 0;
    }

    int Link(ref MessageReader message)
    {
        uint at = message.Dword(), number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(at) is not { } into || Find(number) is not { } fid) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        return done < 0 ? done : fid.Place.IsRoot ? -Errno.Perm : folder.HardLink(fid.Place, into.Place, name);
    }

    int Rename(ref MessageReader message)
    {
        uint number = message.Dword(), at = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(at) is not { } into || Find(number) is not { } fid) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        if (fid.Place.IsRoot) return Busy;
        return fid.Place.Folder is not { } from ? -Errno.NoEntry : Move(from, fid.Place.Name, into.Place, name);
    }

    int RenameAt(ref MessageReader message)
    {
        uint from = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        uint to = message.Dword();
        ReadOnlySpan<byte> newGiven = message.Text();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(from) is not { } source || Find(to) is not { } target) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done < 0) return done;
        done = Named(newGiven, stackalloc byte[NameRoom], out ReadOnlySpan<byte> newName);
        return done < 0 ? done : Move(source.Place, name, target.Place, newName);
    }

    int Move(Place from, ReadOnlySpan<byte> name, Place to, ReadOnlySpan<byte> newName)
    {
        if (from != to || !name.SequenceEqual(newName)) Pin(to, newName);
        int done = folder.Rename(from, name, to, newName);
        if (done >= 0) PlaceTree.Rename(from, name, to, newName);
        return done;
    }

    int UnlinkAt(ref MessageReader message)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        uint flags = message.Dword();
        if (message.IsCut || (flags & ~(uint)Libc.RemoveDir) != 0) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        return done < 0 ? done : Unlink(fid.Place, name, (flags & Libc.RemoveDir) != 0);
    }

    /// <summary>remove(5): the fid goes whatever happens.</summary>
    int Remove(ref MessageReader message)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        Place place = fid.Place;
        place.Hold();
        _fids.Remove(number);
        Close(fid);
        int done = folder.IsReadOnly ? -Errno.ReadOnly : place.IsRoot ? Busy
            : place.Folder is { } from ? Unlink(from, place.Name, null) : -Errno.NoEntry;
        place.Release();
        return done;
    }

    int Unlink(Place from, ReadOnlySpan<byte> name, bool? isFolder)
    {
        if (isFolder != true) Pin(from, name);
        int done = folder.Remove(from, name, isFolder);
        if (done >= 0) PlaceTree.Remove(from, name);
        return done;
    }

    int AnswerChild(Fid fid, scoped ReadOnlySpan<byte> name, ref MessageWriter answer)
    {
        if (PlaceTree.Child(fid.Place, name) is not { } place) return -Errno.TooManyFilesInSystem;
        int done = Identify(place, null, out Qid qid);
        place.Release();
        if (done >= 0) answer.Identity(qid);
        return done;
    }

    /// <summary>makedev(3).</summary>
    static ulong DeviceOf(uint major, uint minor) => (major & 0xFFFUL) << 8 | (major & ~0xFFFUL) << 32 | minor & 0xFFU
        | (minor & ~0xFFUL) << 12;
}
