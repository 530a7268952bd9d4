using Qkvm.Core.Block.Throttling;
using Qkvm.Host;

namespace Qkvm.Core.Files;

/// <summary>Whose a new file is, and what may be done with it.</summary>
/// <param name="Mode">Permissions; of a special file its type, too. stat(2), st_mode.</param>
public readonly record struct NewFile(uint Mode, uint Owner, uint Group);

/// <summary>What is changed of a file; null stays.</summary>
public readonly record struct FileChanges(uint? Mode = null, uint? Owner = null, uint? Group = null, long? Size = null)
{
    /// <summary>Of a time's nanoseconds: UTIME_NOW and UTIME_OMIT, utimensat(2).</summary>
    public const long Now = (1 << 30) - 1, Keep = (1 << 30) - 2;

    public Timespec Accessed { get; init; } = new() { Nanoseconds = Keep };
    public Timespec Modified { get; init; } = new() { Nanoseconds = Keep };
    public bool HasTimes => Accessed.Nanoseconds != Keep || Modified.Nanoseconds != Keep;
}

/// <summary>A folder of the host's that guests see, as -fsdev names it. Names end in NUL, and are one component each:
/// <see cref="FileNames.Refuse"/> judges them. Each call returns 0 or more, or minus an errno.</summary>
/// <remarks>From any thread: several devices may share it. Places and open files are one device's, and what changes
/// them is called on one thread at a time. Nothing that a guest asks for leads outside of the folder, or waits for
/// anybody but the disk.</remarks>
public abstract class SharedFolder(string id, bool isReadOnly)
{
    public string Id { get; } = id;

    /// <summary>Nothing below is ever changed.</summary>
    public bool IsReadOnly { get; } = isReadOnly;

    /// <summary>It is on a file system of this machine: but for its disk, nobody is waited for.</summary>
    public virtual bool IsNear => false;

    /// <summary>How fast files are read and written by all devices together; null: nothing limits them.</summary>
    public virtual ThrottleGroup? Throttle => null;

    /// <summary>Files that may be open at once.</summary>
    public abstract int MostOpen { get; }

    /// <param name="file">The same, where it is open: it may have no name any more.</param>
    public abstract int Stat(Place place, OpenFile? file, out FileStatus status);
    public abstract int ReadLink(Place place, Span<byte> target);

    /// <param name="flags">Of open(2): how it is accessed, O_TRUNC, O_APPEND and O_SYNC.</param>
    public abstract int Open(Place place, int flags, out OpenFile? file);
    public abstract int Create(Place folder, ReadOnlySpan<byte> name, int flags, in NewFile made,
        out OpenFile? file);
    public abstract int MakeFolder(Place folder, ReadOnlySpan<byte> name, in NewFile made);
    public abstract int MakeNode(Place folder, ReadOnlySpan<byte> name, in NewFile made, ulong device);
    public abstract int MakeLink(Place folder, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target, in NewFile made);
    public abstract int HardLink(Place file, Place folder, ReadOnlySpan<byte> name);
    public abstract int Rename(Place folder, ReadOnlySpan<byte> name, Place newFolder, ReadOnlySpan<byte> newName);

    /// <param name="isFolder">Null: whichever it is.</param>
    public abstract int Remove(Place folder, ReadOnlySpan<byte> name, bool? isFolder);
    public abstract int Change(Place place, OpenFile? file, in FileChanges changes);
    public abstract int StatFileSystem(Place place, out FileSystemStatus status);

    // Extended attributes: the size of what there is, which is read if it has room. xattr(7).

    public abstract int GetAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name, Span<byte> value);

    /// <summary>All names, each ending in NUL.</summary>
    public abstract int ListAttributes(Place place, OpenFile? file, Span<byte> names);
    public abstract int SetAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value,
        int flags);
    public abstract int RemoveAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name);

    /// <summary>No guest has anything of that name.</summary>
    public abstract bool Hides(ReadOnlySpan<byte> name);

    /// <summary>What a folder's entry says of a file's type is true.</summary>
    public abstract bool KnowsTypes { get; }

    /// <summary>A number for the file's identity: of a stat, the inode's. Minus an errno where it must not be
    /// seen.</summary>
    public abstract int Identify(in FileStatus status, out ulong number);

    /// <summary>The same for what a folder's entry says of it; null: only a stat tells.</summary>
    public abstract ulong? IdentifyEntry(ulong inode);
}
