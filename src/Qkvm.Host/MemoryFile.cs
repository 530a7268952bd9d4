using System.Numerics;

namespace Qkvm.Host;

/// <summary>What a <see cref="GuestRam"/> is mapped over: a file, one without a name, or memory whose descriptor other
/// processes can be given.</summary>
public sealed unsafe class MemoryFile : IDisposable
{
    const uint AllowSealing = 2, HugeTlb = 4;
    const int HugeSizeShift = 26, AddSeals = 1033, SealShrink = 2, SealGrow = 4;

    int _fd;

    MemoryFile(int fd, bool isShared)
    {
        (_fd, IsShared) = (fd, isShared);
        FileSystemStatus home;                                     // SAFETY: written during the call alone
        if (Libc.fstatfs(fd, &home) < 0) throw new HostException("cannot examine the file of memory", Libc.Errno);
        HasHugePages = home.Type == Libc.HugeTlbFs;
        PageSize = HasHugePages ? (ulong)home.BlockSize : GuestRam.PageSize;
    }

    /// <summary>For others who map it, such as the kernel or a peer.</summary>
    public int Fd => _fd;

    /// <summary>What the guest writes is in the file; else a page that it writes becomes the process's own.</summary>
    public bool IsShared { get; }

    /// <summary>Of a file system of huge pages: each is taken out of the host's stock of them.</summary>
    public bool HasHugePages { get; }

    /// <summary>Bytes; sizes are multiples of it.</summary>
    public ulong PageSize { get; }

    /// <summary>With <see cref="IsShared"/>: nobody wants the contents once the memory goes, and none are written
    /// back.</summary>
    public bool IsDiscarded { get; private init; }

    /// <summary>Huge pages are set aside when they are mapped.</summary>
    public bool IsReserved { get; init; } = true;

    /// <summary>Bytes, a power of two: the memory begins at a multiple of it, if it is larger than a page.</summary>
    public ulong Alignment { get; init; }

    /// <summary>Where in the file the memory begins; a multiple of <see cref="PageSize"/>.</summary>
    public ulong Offset { get; init; }

    /// <summary>The file of that path, made where it is missing; in a directory, one without a name.</summary>
    /// <param name="isReadOnly">Nothing is made, and the file stays as it is.</param>
    /// <exception cref="HostException">The host refuses.</exception>
    public static MemoryFile Open(string path, bool isShared, bool isDiscarded = false, bool isReadOnly = false,
        bool isReserved = true, ulong alignment = 0, ulong offset = 0)
    {
        bool isDirectory = HostFile.TryStatus(path, out FileStatus status, out _) && status.IsDirectory;
        int fd = isReadOnly ? Libc.open(path, Libc.ORdOnly | Libc.OCloexec, 0)
            : isDirectory ? OpenUnnamed(path) : Libc.open(path, Libc.ORdWr | Libc.OCreat | Libc.OCloexec, 0x1A4);
        return fd >= 0 ? new MemoryFile(fd, isShared && !isReadOnly)
            { IsDiscarded = isDiscarded, IsReserved = isReserved, Alignment = alignment, Offset = offset }
            : throw new HostException($"cannot open '{path}'", Libc.Errno);
    }

    /// <summary>memfd_create(2).</summary>
    /// <param name="hugePage">Bytes of the huge pages that it is made of, 0 for pages of the usual size.</param>
    /// <exception cref="HostException">The host refuses.</exception>
    public static MemoryFile Create(string name, bool isShared, ulong hugePage = 0, bool isReserved = true)
    {
        uint huge = hugePage == 0 ? 0 : HugeTlb | (uint)BitOperations.Log2(hugePage) << HugeSizeShift;
        int fd = Libc.memfd_create(name, Libc.MfdCloexec | AllowSealing | huge);
        return fd >= 0 ? new MemoryFile(fd, isShared) { IsReserved = isReserved }
            : throw new HostException("cannot make memory with a descriptor", Libc.Errno);
    }

    /// <summary>By which other processes of the user can open it: /proc/PID/fd/N.</summary>
    public string HostPath => $"/proc/{Environment.ProcessId}/fd/{_fd}";

    /// <summary>Bytes; negative for what has no length.</summary>
    public long Length => Libc.lseek(_fd, 0, Libc.SeekEnd);

    /// <exception cref="HostException">The host refuses.</exception>
    public void SetLength(ulong size)
    {
        if (Libc.ftruncate(_fd, (long)size) < 0) throw new HostException($"cannot make it {size} bytes", Libc.Errno);
    }

    /// <summary>Has the disk take what was written. False where it fails. Any thread; it waits.</summary>
    public bool Flush() => Libc.fsync(_fd) == 0;

    /// <summary>The size stays from now on, whoever has the descriptor.</summary>
    /// <exception cref="HostException">The host refuses.</exception>
    public void Seal()
    {
        if (Libc.fcntl(_fd, AddSeals, SealShrink | SealGrow) < 0) throw new HostException("cannot seal it", Libc.Errno);
    }

    public void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        if (fd >= 0) Libc.close(fd);
    }

    /// <summary>Not O_TMPFILE, which hugetlbfs had not before Linux 5.1.</summary>
    static int OpenUnnamed(string directory)
    {
        string path = Path.Combine(directory, $"qkvm-memory-{Guid.NewGuid():N}");
        int fd = Libc.open(path, Libc.ORdWr | Libc.OCreat | Libc.OExcl | Libc.OCloexec, 0x180);
        if (fd >= 0) File.Delete(path);
        return fd;
    }
}
