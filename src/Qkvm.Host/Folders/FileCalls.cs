namespace Qkvm.Host.Folders;

// SAFETY: memory is pinned, or on the stack, until the call has returned; names end in NUL.
/// <summary>What is done to an open file or folder. Each call returns 0 or more, or minus an errno.</summary>
public static unsafe class FileCalls
{
    public static int Read(int fd, long offset, Span<byte> bytes)
    {
        fixed (byte* to = bytes)
        {
            var piece = new Iovec { Base = to, Length = (nuint)bytes.Length };
            return Result(Libc.preadv(fd, &piece, 1, offset));
        }
    }

    public static int Write(int fd, long offset, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* from = bytes)
        {
            var piece = new Iovec { Base = from, Length = (nuint)bytes.Length };
            return Result(Libc.pwritev(fd, &piece, 1, offset));
        }
    }

    /// <summary>Entries from where the folder stands, struct linux_dirent64 after struct.</summary>
    public static int ReadFolder(int fd, Span<byte> entries)
    {
        fixed (byte* to = entries) return Result(Libc.getdents64(fd, to, entries.Length));
    }

    /// <summary>Where a folder is read from next: what an entry of it said, or 0.</summary>
    public static int Seek(int fd, long position) => Libc.lseek(fd, position, 0) < 0 ? -Libc.Errno : 0;

    public static int Synchronize(int fd, bool dataAlone) => Result(dataAlone ? Libc.fdatasync(fd) : Libc.fsync(fd));

    /// <summary>Written pages go to the disk from now on; nobody waits for them.</summary>
    public static int BeginWriteout(int fd, long offset, long length)
    {
        const uint WaitBefore = 1, Write = 2;                      // sync_file_range(2)
        return Result(Libc.sync_file_range(fd, offset, length, WaitBefore | Write));
    }

    public static int SetLength(int fd, long length) => Result(Libc.ftruncate(fd, length));

    public static int ChangeMode(int fd, uint mode) => Result(Libc.fchmod(fd, mode));

    public static int ChangeOwner(int fd, uint owner, uint group) => Result(Libc.fchown(fd, owner, group));

    public static int ChangeTimes(int fd, Timespec accessed, Timespec modified)
    {
        Timespec* times = stackalloc Timespec[2] { accessed, modified };
        return Result(Libc.futimens(fd, times));
    }

    /// <returns>Bytes of the value, which was read if it has room.</returns>
    public static int GetAttribute(int fd, ReadOnlySpan<byte> name, Span<byte> value)
    {
        fixed (byte* at = Name(name))
        fixed (byte* to = value) return Result(Libc.fgetxattr(fd, at, to, (nuint)value.Length));
    }

    public static int ListAttributes(int fd, Span<byte> names)
    {
        fixed (byte* to = names) return Result(Libc.flistxattr(fd, to, (nuint)names.Length));
    }

    public static int SetAttribute(int fd, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int flags)
    {
        fixed (byte* at = Name(name))
        fixed (byte* from = value) return Result(Libc.fsetxattr(fd, at, from, (nuint)value.Length, flags));
    }

    public static int RemoveAttribute(int fd, ReadOnlySpan<byte> name)
    {
        fixed (byte* at = Name(name)) return Result(Libc.fremovexattr(fd, at));
    }

    static ReadOnlySpan<byte> Name(ReadOnlySpan<byte> name) => name.Length > 0 && name[^1] == 0 ? name
        : throw new ArgumentException("a name without its end");

    static int Result(nint result) => result >= 0 ? (int)Math.Min(result, int.MaxValue) : -Libc.Errno;
}
