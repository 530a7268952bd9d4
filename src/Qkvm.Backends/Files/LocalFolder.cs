using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>-fsdev local: a folder of the host.</summary>
/// <remarks>Nothing leads outside: each call begins at the root's descriptor and goes down by names, of which none may
/// be a symbolic link, and which the kernel keeps beneath the root (openat2(2), RESOLVE_BENEATH; before Linux 5.6 name
/// by name). What links say is the guest's to read, and nobody here follows them. Only regular files and folders are
/// ever opened. Deviations: attributes of names other than user.* and system.posix_acl_* are not to be had, as with
/// QEMU; and of symbolic links none are.</remarks>
public sealed partial class LocalFolder : SharedFolder, IDisposable
{
    /// <summary>Of what a client says to open.</summary>
    const int ClientFlags = Libc.OAccMode | Libc.OTrunc | Libc.OAppend | Libc.ODSync | Libc.OSync;

    readonly int _root;
    readonly Ownership _ownership;
    readonly DeviceNumbers _numbers;

    LocalFolder(string id, int root, Ownership ownership, bool isReadOnly) : base(id, isReadOnly)
    {
        (_root, _ownership) = (root, ownership);
        At.Stat(root, out FileStatus status);
        IsNear = At.StatFileSystem(root, out FileSystemStatus home) >= 0 && Libc.IsNear(home.Type);
        _numbers = new DeviceNumbers(this, status.Device);
    }

    internal uint FileMode { get; init; }
    internal uint FolderMode { get; init; }
    internal OtherDevices Others { get; init; }
    internal bool BeginsWriteout { get; init; }
    internal Action<string> Warn { get; init; } = static _ => { };

    /// <summary>Keeps the group, which the devices join.</summary>
    internal ThrottleMember? Membership { get; init; }

    public override ThrottleGroup? Throttle => Membership?.Group;

    public override bool IsNear { get; }

    public override int MostOpen { get; } = (int)Math.Clamp(HostProcess.MaxDescriptors / 4, 16, 65536);

    public override int Stat(Place place, OpenFile? file, out FileStatus status)
    {
        using Descriptor folder = FolderOf(place);
        int fd = Fd(file);
        status = default;
        if (folder.Failed && fd < 0) return folder.Fd;
        int done = fd >= 0 ? At.Stat(fd, out status) : At.Stat(folder.Fd, place.Name, out status);
        if (done >= 0) _ownership.Overlay(folder.Fd, place.Name, fd, ref status);
        return done;
    }

    public override int ReadLink(Place place, Span<byte> target)
    {
        using Descriptor folder = FolderOf(place);
        if (folder.Failed) return folder.Fd;
        if (!_ownership.IsMapped) return At.ReadLink(folder.Fd, place.Name, target);
        int done = At.Stat(folder.Fd, place.Name, out FileStatus status);
        if (done < 0) return done;
        if (status.IsLink) return At.ReadLink(folder.Fd, place.Name, target);
        _ownership.Overlay(folder.Fd, place.Name, -1, ref status);
        if (!status.IsLink) return -Errno.Invalid;
        using var file = new Descriptor(At.Open(folder.Fd, place.Name, Libc.ORdOnly));
        return file.Failed ? file.Fd : FileCalls.Read(file.Fd, 0, target);
    }

    public override int Open(Place place, int flags, out OpenFile? file)
    {
        file = null;
        using Descriptor folder = FolderOf(place);
        if (folder.Failed) return folder.Fd;
        return Opened(At.Open(folder.Fd, place.Name, flags & ClientFlags), out file);
    }

    public override int StatFileSystem(Place place, out FileSystemStatus status)
    {
        using Descriptor folder = Locate(place.Folder ?? place);
        status = default;
        return folder.Failed ? folder.Fd : At.StatFileSystem(folder.Fd, out status);
    }

    public override int Change(Place place, OpenFile? file, in FileChanges changes)
    {
        if (IsReadOnly) return -Errno.ReadOnly;
        using Descriptor folder = FolderOf(place);
        int fd = Fd(file);
        if (folder.Failed && fd < 0) return folder.Fd;
        FileChanges stored = changes;
        if (changes.Mode is { } mode)
        {
            // its type stays, whatever the client says
            int found = Stat(place, file, out FileStatus status);
            if (found < 0) return found;
            stored = changes with { Mode = mode & Ownership.Permissions | status.Mode & Ownership.TypeMask };
        }
        int done = 0;
        if (stored.Mode != null || stored.Owner != null || stored.Group != null)
            done = _ownership.Store(folder.Fd, place.Name, fd, stored);
        if (done >= 0 && changes.HasTimes)
            done = fd >= 0 ? FileCalls.ChangeTimes(fd, changes.Accessed, changes.Modified)
                : At.ChangeTimes(folder.Fd, place.Name, changes.Accessed, changes.Modified);
        if (done < 0 || changes.Size is not { } size) return done;
        if (fd >= 0 && (done = FileCalls.SetLength(fd, size)) is not (-Errno.Invalid or -Errno.BadFile)) return done;
        if (folder.Failed) return folder.Fd;
        using var written = new Descriptor(At.Open(folder.Fd, place.Name, Libc.OWrOnly));
        return written.Failed ? written.Fd : FileCalls.SetLength(written.Fd, size);
    }

    public override bool Hides(ReadOnlySpan<byte> name) => _ownership.Hides(name);

    public override bool KnowsTypes => !_ownership.IsMapped;

    public override int Identify(in FileStatus status, out ulong number) => _numbers.Of(status, out number);

    public override ulong? IdentifyEntry(ulong inode) => Others == OtherDevices.Remap ? null : inode;

    public void Dispose()
    {
        Membership?.Leave();
        Libc.close(_root);
    }

    int Opened(int fd, out OpenFile? file)
    {
        file = fd >= 0 ? new LocalFile(fd, BeginsWriteout) : null;
        return Math.Min(0, fd);
    }

    static int Fd(OpenFile? file) => file is LocalFile { } open ? open.Fd : -1;

    /// <summary>The folder in which a place has its name: the root has one in itself.</summary>
    Descriptor FolderOf(Place place) => place.IsRoot ? Locate(place)
        : place.Folder is { } folder && !Hides(place.Name) ? Locate(folder) : new Descriptor(-Errno.NoEntry);

    /// <summary>Whose name a client gives for something new.</summary>
    Descriptor FolderFor(Place folder, ReadOnlySpan<byte> name)
    {
        int wrong = IsReadOnly ? -Errno.ReadOnly : FileNames.Refuse(name[..^1]);
        if (wrong == 0 && _ownership.Hides(name)) wrong = -Errno.Invalid;
        return wrong != 0 ? new Descriptor(wrong) : Locate(folder);
    }
}
