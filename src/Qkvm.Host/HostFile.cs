using System.Buffers;

namespace Qkvm.Host;

// SAFETY: what calls are given is on the stack.
/// <summary>An open file or block device: positional vectored I/O on managed memory without copies.</summary>
/// <remarks>Calls return what the system call returned, or a negative errno. They may run on many threads at
/// once.</remarks>
public sealed unsafe class HostFile : IDisposable
{
    int _fd;

    HostFile(int fd, string path, int flags)
    {
        _fd = fd;
        Path = path;
        IsDirect = (flags & Libc.ODirect) != 0;
        IsWritable = (flags & Libc.OAccMode) != Libc.ORdOnly;
        FileStatus status;
        if (Libc.fstat(fd, &status) < 0) throw new HostException($"cannot examine '{path}'", Libc.Errno);
        Status = status;
        FileSystemStatus home;
        IsInMemory = Libc.fstatfs(fd, &home) == 0 && home.Type is Libc.TmpFs or Libc.RamFs or Libc.HugeTlbFs;
    }

    internal int Fd => _fd;
    public string Path { get; }
    public bool IsDirect { get; }
    public bool IsWritable { get; }
    public FileStatus Status { get; }

    /// <summary>What it takes of its file system now.</summary>
    public long AllocatedBytes
    {
        get
        {
            const int block = 512;                                 // stat(2), st_blocks
            FileStatus now;
            return Libc.fstat(_fd, &now) < 0 ? 0 : now.Blocks512 * block;
        }
    }

    /// <summary>Its file system is memory: nothing waits for a disk.</summary>
    public bool IsInMemory { get; }

    /// <summary>Null and an errno where the host refuses.</summary>
    public static HostFile? Open(string path, int flags, out int errno)
    {
        if (!DescriptorSets.TryOpen(path, flags, out int fd, out errno))
        {
            do fd = Libc.open(path, flags | Libc.OCloexec, 0x1A4); // rw-r--r--
            while (fd < 0 && Libc.Errno == Libc.EIntr);
            errno = fd < 0 ? Libc.Errno : 0;
        }
        return fd < 0 ? null : new HostFile(fd, path, flags);
    }

    /// <summary>The same file once more, even where its name is another's now.</summary>
    public HostFile? Reopen(int flags, out int errno)
    {
        if (DescriptorSets.TryOpen(Path, flags, out int fd, out errno))
            return fd < 0 ? null : new HostFile(fd, Path, flags);
        fd = Libc.open($"/proc/self/fd/{_fd}", flags | Libc.OCloexec, 0);
        errno = fd < 0 ? Libc.Errno : 0;
        return fd < 0 ? null : new HostFile(fd, Path, flags);
    }

    /// <exception cref="HostException">Not ours, or not there.</exception>
    public static void SetMode(string path, UnixFileMode mode)
    {
        if (Libc.chmod(path, mode) < 0) throw new HostException($"cannot change the rights of '{path}'", Libc.Errno);
    }

    /// <summary>Removes what this process has made, where it still may: after -chroot and -runas a name leads
    /// elsewhere, or is another user's.</summary>
    public static void TryRemove(string path) => Libc.unlink(path);

    /// <summary>Facts about a path that need not be readable; false and an errno where there is nothing.</summary>
    public static bool TryStatus(string path, out FileStatus status, out int errno)
    {
        FileStatus found;
        errno = Libc.stat(path, &found) < 0 ? Libc.Errno : 0;
        status = found;
        return errno == 0;
    }

    /// <summary>Bytes: the end of the file or the size of the device.</summary>
    public long Length()
    {
        if (!Status.IsBlockDevice) return Result(Libc.lseek(_fd, 0, Libc.SeekEnd));
        ulong size;
        return Libc.ioctl(_fd, Libc.BlkGetSize64, &size) < 0 ? -Libc.Errno : (long)size;
    }

    /// <summary>Where data begins from an offset on (SEEK_DATA); ENXIO where only holes follow.</summary>
    public long NextData(long offset) => Result(Libc.lseek(_fd, offset, Libc.SeekData));

    /// <summary>Where the next hole begins (SEEK_HOLE); the end of the file counts as one.</summary>
    public long NextHole(long offset) => Result(Libc.lseek(_fd, offset, Libc.SeekHole));

    /// <summary>The logical sector size of a block device, or 0.</summary>
    public int SectorSize()
    {
        int size;
        return Status.IsBlockDevice && Libc.ioctl(_fd, Libc.BlkSszGet, &size) >= 0 ? size : 0;
    }

    public long Read(long offset, ReadOnlySpan<Memory<byte>> pieces) => Transfer(offset, pieces, FileTransfer.Read);

    /// <summary>Reads what is in the page cache; EAGAIN or less than all where a disk would have to be waited
    /// for.</summary>
    public long ReadNow(long offset, ReadOnlySpan<Memory<byte>> pieces) =>
        Transfer(offset, pieces, IsInMemory ? FileTransfer.Read : FileTransfer.ReadNow);

    public long Write(long offset, ReadOnlySpan<Memory<byte>> pieces) => Transfer(offset, pieces, FileTransfer.Write);

    /// <summary>Writes, and waits until that is on stable storage, by <see cref="HasDataSync"/>.</summary>
    public long WriteSync(long offset, ReadOnlySpan<Memory<byte>> pieces) =>
        Transfer(offset, pieces, FileTransfer.WriteSync);

    static readonly byte[] s_lookedAt = new byte[1];               // nobody minds what is in it

    /// <summary>Both ends of a range are in the page cache, and so most likely is what lies between: nothing waits for
    /// a disk.</summary>
    /// <param name="length">At least 1.</param>
    public bool IsCached(long offset, long length) => IsInMemory
        || ReadNow(offset, [s_lookedAt]) == 1 && ReadNow(offset + length - 1, [s_lookedAt]) == 1;

    /// <summary>From the page cache into a socket, without a copy.</summary>
    public long SendTo(Sockets.StreamSocket socket, long offset, long length) =>
        Result(Libc.sendfile(socket.OutputFd, _fd, &offset, (nuint)length));

    /// <summary>The kernel has RWF_DSYNC: since Linux 4.7.</summary>
    public bool HasDataSync => _hasDataSync ??= Transfer(0, [], FileTransfer.WriteSync) >= 0;

    bool? _hasDataSync;

    public long DataSync() => Result(Libc.fdatasync(_fd));

    public long Allocate(int mode, long offset, long length) => Result(Libc.fallocate(_fd, mode, offset, length));

    public long Truncate(long length) => Result(Libc.ftruncate(_fd, length));

    /// <summary>Shares the bytes of another file, where the file system can: ioctl_ficlonerange(2).</summary>
    public long Clone(HostFile source, long sourceOffset, long offset, long length)
    {
        ulong* range = stackalloc ulong[4] { (ulong)source._fd, (ulong)sourceOffset, (ulong)length, (ulong)offset };
        return Result(Libc.ioctl(_fd, Libc.CloneRange, range));
    }

    /// <summary>copy_file_range(2): how many bytes the kernel has copied.</summary>
    public long CopyFrom(HostFile source, long sourceOffset, long offset, long length) =>
        Result(Libc.copy_file_range(source._fd, &sourceOffset, _fd, &offset, (nuint)length, 0));

    /// <summary>BLKDISCARD or BLKZEROOUT over a range of a block device.</summary>
    public long DeviceRange(ulong request, long offset, long length)
    {
        ulong* range = stackalloc ulong[2] { (ulong)offset, (ulong)length };
        return Result(Libc.ioctl(_fd, request, range));
    }

    /// <summary>Takes or drops an open-file-description lock.</summary>
    public long SetLock(short type, long start, long length)
    {
        var range = new Flock { Type = type, Start = start, Length = length };
        return Result(Libc.fcntl(_fd, Libc.FOfdSetLk, &range));
    }

    /// <summary>1 where somebody else's lock stands against an exclusive one, 0 where none does.</summary>
    public long IsLockedByOthers(long start, long length)
    {
        var range = new Flock { Type = Libc.FWrLck, Start = start, Length = length };
        long result = Result(Libc.fcntl(_fd, Libc.FOfdGetLk, &range));
        return result < 0 ? result : range.Type == Libc.FUnlck ? 0 : 1;
    }

    /// <summary>Whether O_DIRECT takes these pieces: addresses and lengths are multiples of the alignment.</summary>
    public static bool IsAligned(ReadOnlySpan<Memory<byte>> pieces, int alignment)
    {
        foreach (Memory<byte> piece in pieces)
        {
            if (piece.Length % alignment != 0) return false;
            using MemoryHandle pin = piece.Pin();
            if ((nuint)pin.Pointer % (nuint)alignment != 0) return false;
        }
        return true;
    }

    public void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        if (fd >= 0) Libc.close(fd);
    }

    static long Result(long value) => value < 0 ? -Libc.Errno : value;

    long Transfer(long offset, ReadOnlySpan<Memory<byte>> pieces, FileTransfer kind) =>
        FileTransfers.Move(_fd, kind, offset, pieces);
}

/// <summary>Memory aligned for O_DIRECT.</summary>
public sealed unsafe class AlignedBuffer(int length, int alignment) : MemoryManager<byte>
{
    byte* _start = (byte*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc((nuint)length, (nuint)alignment);

    public override Span<byte> GetSpan() => new(_start, length);
    public override MemoryHandle Pin(int elementIndex = 0) => new(_start + elementIndex);
    public override void Unpin() { }

    protected override void Dispose(bool disposing)
    {
        System.Runtime.InteropServices.NativeMemory.AlignedFree(_start);
        _start = null;
    }
}
