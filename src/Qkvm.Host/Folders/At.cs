namespace Qkvm.Host.Folders;

// SAFETY: names end in NUL, which Name checks, and all that is pointed to is pinned or on the stack during the call.
/// <summary>Files by a folder's descriptor and a name in it. Names are bytes that end in NUL; the last component is
/// never followed where it is a symbolic link. Each call returns 0 or more, or minus an errno.</summary>
public static unsafe partial class At
{
    /// <summary>The folder itself, as a name in it.</summary>
    public static ReadOnlySpan<byte> Self => ".\0"u8;

    /// <summary>Flags of every descriptor: a FIFO or a terminal that stands there does not hold anybody up.</summary>
    const int Always = Libc.OCloexec | Libc.ONoFollow | Libc.ONonBlock | Libc.ONoCtty;

    public static int OpenRoot(string path) =>
        Result(Libc.open(path, Libc.OPath | Libc.ODirectory | Libc.OCloexec, 0));

    /// <summary>A regular file or a folder, for reading or writing; what else stands there is ENXIO.</summary>
    public static int Open(int folder, ReadOnlySpan<byte> name, int flags, uint mode = 0)
    {
        int fd;
        fixed (byte* at = Name(name)) fd = Result(Libc.openat(folder, at, flags | Always, mode));
        if (fd < 0) return fd;
        if (Stat(fd, out FileStatus status) >= 0 && (status.IsRegularFile || status.IsDirectory)) return fd;
        Libc.close(fd);
        return -Errno.NoDevice;
    }

    /// <summary>A folder to name others by: nothing happens to it.</summary>
    public static int OpenFolder(int folder, ReadOnlySpan<byte> name)
    {
        fixed (byte* at = Name(name))
            return Result(Libc.openat(folder, at, Libc.OPath | Libc.ODirectory | Always, 0));
    }

    /// <summary>A folder some levels below, by names with slashes between them: openat2(2) lets none of them be a
    /// link or lead out. ENOSYS where the kernel has no such call, EPERM where a filter refuses what it does not
    /// know.</summary>
    public static int OpenBelow(int folder, ReadOnlySpan<byte> path)
    {
        var how = new OpenHow { Flags = Libc.OPath | Libc.ODirectory | Libc.OCloexec | Libc.ONoFollow,
            Resolve = Libc.ResolveBeneath };
        fixed (byte* at = Name(path)) return Result(Libc.openat2(folder, at, &how));
    }

    public static int Stat(int folder, ReadOnlySpan<byte> name, out FileStatus status)
    {
        fixed (byte* at = Name(name))
        fixed (FileStatus* to = &status) return Result(Libc.fstatat(folder, at, to, Libc.SymlinkNoFollow));
    }

    public static int Stat(int fd, out FileStatus status)
    {
        fixed (FileStatus* to = &status) return Result(Libc.fstat(fd, to));
    }

    public static int StatFileSystem(int fd, out FileSystemStatus status)
    {
        fixed (FileSystemStatus* to = &status) return Result(Libc.fstatfs(fd, to));
    }

    public static int MakeFolder(int folder, ReadOnlySpan<byte> name, uint mode)
    {
        fixed (byte* at = Name(name)) return Result(Libc.mkdirat(folder, at, mode));
    }

    public static int MakeNode(int folder, ReadOnlySpan<byte> name, uint mode, ulong device)
    {
        fixed (byte* at = Name(name)) return Result(Libc.mknodat(folder, at, mode, device));
    }

    public static int MakeLink(int folder, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target)
    {
        fixed (byte* at = Name(name))
        fixed (byte* to = Name(target)) return Result(Libc.symlinkat(to, folder, at));
    }

    public static int ReadLink(int folder, ReadOnlySpan<byte> name, Span<byte> target)
    {
        fixed (byte* at = Name(name))
        fixed (byte* to = target) return Result((int)Libc.readlinkat(folder, at, to, (nuint)target.Length));
    }

    public static int HardLink(int folder, ReadOnlySpan<byte> name, int newFolder, ReadOnlySpan<byte> newName)
    {
        fixed (byte* at = Name(name))
        fixed (byte* to = Name(newName)) return Result(Libc.linkat(folder, at, newFolder, to, 0));
    }

    public static int Rename(int folder, ReadOnlySpan<byte> name, int newFolder, ReadOnlySpan<byte> newName)
    {
        fixed (byte* at = Name(name))
        fixed (byte* to = Name(newName)) return Result(Libc.renameat(folder, at, newFolder, to));
    }

    public static int Remove(int folder, ReadOnlySpan<byte> name, bool isFolder)
    {
        fixed (byte* at = Name(name)) return Result(Libc.unlinkat(folder, at, isFolder ? Libc.RemoveDir : 0));
    }

    public static int ChangeOwner(int folder, ReadOnlySpan<byte> name, uint owner, uint group)
    {
        fixed (byte* at = Name(name))
            return Result(Libc.fchownat(folder, at, owner, group, Libc.SymlinkNoFollow));
    }

    public static int ChangeTimes(int folder, ReadOnlySpan<byte> name, Timespec accessed, Timespec modified)
    {
        Timespec* times = stackalloc Timespec[2] { accessed, modified };
        fixed (byte* at = Name(name)) return Result(Libc.utimensat(folder, at, times, Libc.SymlinkNoFollow));
    }

    /// <summary>Of anything but a symbolic link, without opening it. Kernels before 6.6 need /proc for it.</summary>
    public static int ChangeMode(int folder, ReadOnlySpan<byte> name, uint mode)
    {
        int done;
        fixed (byte* at = Name(name)) done = Result(Libc.fchmodat2(folder, at, mode, Libc.SymlinkNoFollow));
        if (done is not (-Errno.NotBuilt or -Errno.Perm)) return done; // EPERM: its owner's refusal, or a filter's
        int fd;
        fixed (byte* at = Name(name)) fd = Result(Libc.openat(folder, at, Libc.OPath | Always, 0));
        using var pinned = new Descriptor(fd);
        if (pinned.Failed) return fd;
        if ((done = Stat(fd, out FileStatus status)) < 0) return done;
        if (status.IsLink) return -Errno.NotSupported;
        Span<byte> path = stackalloc byte[32];
        path.Clear();
        "/proc/self/fd/"u8.CopyTo(path);
        fd.TryFormat(path[14..], out _);
        fixed (byte* at = path) return Result(Libc.chmodAt(at, mode));
    }

    static ReadOnlySpan<byte> Name(ReadOnlySpan<byte> name) => name.Length > 0 && name[^1] == 0 ? name
        : throw new ArgumentException("a name without its end");

    static int Result(int result) => result >= 0 ? result : -Libc.Errno;
}
