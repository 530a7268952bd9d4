using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>What comes, goes and is called otherwise.</summary>
public sealed partial class LocalFolder
{
    public override int Create(Place folder, ReadOnlySpan<byte> name, int flags, in NewFile made, out OpenFile? file)
    {
        file = null;
        using Descriptor at = FolderFor(folder, name);
        if (at.Failed) return at.Fd;
        int opened = flags & ClientFlags, fd = MakeFile(at.Fd, name, opened, made, 0);
        if (fd == -Errno.Exists && (flags & Libc.OExcl) == 0) fd = At.Open(at.Fd, name, opened);
        return Opened(fd, out file);
    }

    public override int MakeFolder(Place folder, ReadOnlySpan<byte> name, in NewFile made)
    {
        using Descriptor at = FolderFor(folder, name);
        if (at.Failed) return at.Fd;
        uint mode = made.Mode & Ownership.Permissions;
        int done = At.MakeFolder(at.Fd, name, _ownership.IsMapped ? FolderMode : mode);
        return done < 0 ? done
            : Keep(at.Fd, name, -1, made with { Mode = mode | Ownership.Folder }, 0, isFolder: true);
    }

    public override int MakeNode(Place folder, ReadOnlySpan<byte> name, in NewFile made, ulong device)
    {
        using Descriptor at = FolderFor(folder, name);
        if (at.Failed) return at.Fd;
        uint type = made.Mode & Ownership.TypeMask;
        if (type is Ownership.Folder or Ownership.Link) return -Errno.Invalid;
        NewFile typed = type == 0 ? made with { Mode = made.Mode | Ownership.Regular } : made;
        if (_ownership.IsMapped) return Close(MakeFile(at.Fd, name, Libc.OWrOnly, typed, device));
        int done = At.MakeNode(at.Fd, name, typed.Mode & (Ownership.TypeMask | Ownership.Permissions), device);
        return done < 0 ? done : Keep(at.Fd, name, -1, typed, device);
    }

    public override int MakeLink(Place folder, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target, in NewFile made)
    {
        const uint All = 0x1FF;
        using Descriptor at = FolderFor(folder, name);
        if (at.Failed) return at.Fd;
        NewFile typed = made with { Mode = Ownership.Link | All };
        if (!_ownership.IsMapped)
        {
            int done = At.MakeLink(at.Fd, name, target);
            return done < 0 ? done : Keep(at.Fd, name, -1, typed, 0);
        }
        using var file = new Descriptor(MakeFile(at.Fd, name, Libc.OWrOnly, typed, 0));
        if (file.Failed) return file.Fd;
        int written = FileCalls.Write(file.Fd, 0, target[..^1]);
        if (written == target.Length - 1) return 0;
        Forget(at.Fd, name, isFolder: false);
        return written < 0 ? written : -Errno.NoSpace;
    }

    public override int HardLink(Place file, Place folder, ReadOnlySpan<byte> name)
    {
        using Descriptor from = FolderOf(file), to = FolderFor(folder, name);
        if (from.Failed || to.Failed) return from.Failed ? from.Fd : to.Fd;
        int done = At.HardLink(from.Fd, file.Name, to.Fd, name);
        if (done >= 0) _ownership.Linked(from.Fd, file.Name, to.Fd, name);
        return done;
    }

    public override int Rename(Place folder, ReadOnlySpan<byte> name, Place newFolder, ReadOnlySpan<byte> newName)
    {
        using Descriptor from = FolderFor(folder, name), to = FolderFor(newFolder, newName);
        if (from.Failed || to.Failed) return from.Failed ? from.Fd : to.Fd;
        int done = At.Rename(from.Fd, name, to.Fd, newName);
        if (done >= 0) _ownership.Renamed(from.Fd, name, to.Fd, newName);
        return done;
    }

    public override int Remove(Place folder, ReadOnlySpan<byte> name, bool? isFolder)
    {
        using Descriptor at = FolderFor(folder, name);
        if (at.Failed) return at.Fd;
        int done;
        if (isFolder == null)
        {
            if ((done = At.Stat(at.Fd, name, out FileStatus status)) < 0) return done;
            isFolder = status.IsDirectory;
        }
        if ((done = _ownership.BeforeRemove(at.Fd, name, isFolder.Value)) < 0) return done;
        if ((done = At.Remove(at.Fd, name, isFolder.Value)) >= 0) _ownership.Removed(at.Fd, name);
        return done;
    }

    /// <summary>A new regular file, whatever it stands for.</summary>
    int MakeFile(int folder, ReadOnlySpan<byte> name, int flags, in NewFile made, ulong device)
    {
        uint mode = _ownership.IsMapped ? FileMode : made.Mode & Ownership.Permissions;
        int fd = At.Open(folder, name, flags | Libc.OCreat | Libc.OExcl, mode);
        if (fd < 0) return fd;
        NewFile typed = (made.Mode & Ownership.TypeMask) == 0 ? made with { Mode = made.Mode | Ownership.Regular }
            : made;
        int kept = Keep(folder, name, fd, typed, device);
        if (kept >= 0) return fd;
        Libc.close(fd);
        return kept;
    }

    /// <summary>Whose the new file is; where that cannot be kept, it goes again.</summary>
    int Keep(int folder, ReadOnlySpan<byte> name, int fd, in NewFile made, ulong device, bool isFolder = false)
    {
        int done = _ownership.Store(folder, name, fd, new FileChanges(made.Mode, made.Owner, made.Group), device);
        if (done < 0) Forget(folder, name, isFolder);
        return Math.Min(0, done);
    }

    void Forget(int folder, ReadOnlySpan<byte> name, bool isFolder)
    {
        At.Remove(folder, name, isFolder);
        _ownership.Removed(folder, name);
    }

    static int Close(int fd)
    {
        if (fd >= 0) Libc.close(fd);
        return Math.Min(0, fd);
    }
}
