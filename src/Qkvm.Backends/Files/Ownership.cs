using Qkvm.Core.Files;
using Qkvm.Host;
using Qkvm.Host.Folders;

namespace Qkvm.Backends.Files;

/// <summary>Where owners, permissions and types of a guest's files are kept: security_model=. Names end in
/// NUL.</summary>
abstract class Ownership
{
    public const uint TypeMask = 0xF000, Regular = 0x8000, Folder = 0x4000, Link = 0xA000, Permissions = 0xFFF;

    /// <summary>They are not the host's: its files are its user's, and special files and links plain ones.</summary>
    public abstract bool IsMapped { get; }

    /// <summary>A name of its own, which guests neither see nor make.</summary>
    public virtual bool Hides(ReadOnlySpan<byte> name) => false;

    /// <summary>Puts what is kept of a file in the place of the host's.</summary>
    /// <param name="fd">Of the file, or -1.</param>
    /// <param name="folder">Where it has the name; -1: nowhere.</param>
    public virtual void Overlay(int folder, ReadOnlySpan<byte> name, int fd, ref FileStatus status) { }

    /// <summary>Keeps mode, owner and group of a file, and of a special one what it stands for.</summary>
    public abstract int Store(int folder, ReadOnlySpan<byte> name, int fd, in FileChanges changes,
        ulong? device = null);

    // What is kept by names goes with them.

    public virtual int BeforeRemove(int folder, ReadOnlySpan<byte> name, bool isFolder) => 0;
    public virtual void Removed(int folder, ReadOnlySpan<byte> name) { }
    public virtual void Linked(int folder, ReadOnlySpan<byte> name, int newFolder, ReadOnlySpan<byte> newName) { }
    public virtual void Renamed(int folder, ReadOnlySpan<byte> name, int newFolder, ReadOnlySpan<byte> newName) { }

    /// <summary>As the host keeps an extended attribute; empty: guests have none of that name.</summary>
    /// <param name="errno">Why.</param>
    public virtual ReadOnlySpan<byte> HostAttribute(ReadOnlySpan<byte> name, bool isChange, out int errno)
    {
        bool isTheirs = name.StartsWith("user."u8) || name.StartsWith("system.posix_acl_"u8);
        errno = isTheirs ? 0 : -Errno.NotSupported;
        return isTheirs ? name : default;
    }

    /// <summary>As guests see an extended attribute of the host; empty: they do not.</summary>
    public virtual ReadOnlySpan<byte> GuestAttribute(ReadOnlySpan<byte> name) =>
        HostAttribute(name, isChange: false, out _);
}

/// <summary>The host's files have them: passthrough, and none, which goes on where the host's user may not give a file
/// to another.</summary>
sealed class HostOwnership(bool mayFail) : Ownership
{
    public override bool IsMapped => false;

    public override int Store(int folder, ReadOnlySpan<byte> name, int fd, in FileChanges changes, ulong? device)
    {
        const uint Same = uint.MaxValue;
        bool isNew = device != null;
        if (changes.Owner != null || changes.Group != null)
        {
            uint owner = changes.Owner ?? Same, group = changes.Group ?? Same;
            int done = fd >= 0 ? FileCalls.ChangeOwner(fd, owner, group)
                : At.ChangeOwner(folder, name, owner, group);
            if (done < 0 && !(mayFail && isNew)) return done;
        }
        if (changes.Mode is not { } mode || (mode & TypeMask) == Link) return 0;
        return fd >= 0 ? FileCalls.ChangeMode(fd, mode & Permissions)
            : At.ChangeMode(folder, name, mode & Permissions);
    }
}
