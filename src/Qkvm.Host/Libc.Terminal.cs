using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: the kernel reads and writes what it is given during the call, and no longer.
public static unsafe partial class Libc
{
    public const int ONoCtty = 0x100;

    [LibraryImport(Library, SetLastError = true)]
    public static partial int isatty(int fd);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int tcgetattr(int fd, Termios* settings);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int tcsetattr(int fd, int actions, Termios* settings);

    [LibraryImport(Library)]
    public static partial void cfmakeraw(Termios* settings);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int posix_openpt(int flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int grantpt(int fd);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int unlockpt(int fd);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ptsname_r(int fd, byte* buffer, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fcntl(int fd, int command, nint argument);
}

/// <summary>struct termios of glibc on x86-64.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct Termios
{
    public uint InputFlags, OutputFlags, ControlFlags, LocalFlags;
    public byte Line;
    public fixed byte ControlCharacters[32];
    public uint InputSpeed, OutputSpeed;
}

/// <summary>A terminal's settings, saved and restored.</summary>
public sealed unsafe class TerminalMode
{
    const int Now = 0;
    const uint OutputProcessing = 1, IsIg = 1;                     // OPOST, ISIG
    const int MinimumBytes = 6, Timeout = 5;                       // VMIN, VTIME

    readonly int _fd;
    Termios _saved;

    TerminalMode(int fd, Termios saved) => (_fd, _saved) = (fd, saved);

    /// <summary>Characters pass as they are typed, without echo; newline output stays as it was. Null if it is no
    /// terminal.</summary>
    /// <param name="signals">Whether ctrl-c and ctrl-z still make signals; otherwise the guest gets them.</param>
    public static TerminalMode? MakeRaw(int fd, bool signals)
    {
        Termios now;
        if (Libc.isatty(fd) != 1 || Libc.tcgetattr(fd, &now) < 0) return null;
        var mode = new TerminalMode(fd, now);
        Libc.cfmakeraw(&now);
        now.OutputFlags |= OutputProcessing;
        if (signals) now.LocalFlags |= IsIg;
        now.ControlCharacters[MinimumBytes] = 1;
        now.ControlCharacters[Timeout] = 0;
        Libc.tcsetattr(fd, Now, &now);
        return mode;
    }

    /// <summary>In characters; null where the terminal has none.</summary>
    public (ushort Columns, ushort Rows)? WindowSize
    {
        get
        {
            const ulong GetWindowSize = 0x5413;                    // TIOCGWINSZ
            ushort* size = stackalloc ushort[4];                   // struct winsize: rows, columns, pixels
            return Libc.ioctl(_fd, GetWindowSize, size) == 0 && size[1] != 0 ? (size[1], size[0]) : null;
        }
    }

    public void Restore()
    {
        fixed (Termios* saved = &_saved) Libc.tcsetattr(_fd, Now, saved);
    }

    /// <summary>A pseudo terminal in raw mode: its master descriptor and the slave's path.</summary>
    public static (int Master, string SlavePath) OpenPseudoTerminal()
    {
        int fd = Libc.posix_openpt(Libc.ORdWr | Libc.ONoCtty | Libc.OCloexec);
        if (fd < 0 || Libc.grantpt(fd) < 0 || Libc.unlockpt(fd) < 0)
            throw new HostException("cannot open a pseudo terminal", Libc.Errno);
        byte* name = stackalloc byte[128];
        if (Libc.ptsname_r(fd, name, 128) != 0) throw new HostException("cannot name the pseudo terminal", Libc.Errno);
        Termios settings;
        Libc.tcgetattr(fd, &settings);
        Libc.cfmakeraw(&settings);
        Libc.tcsetattr(fd, Now, &settings);
        const int SetFlags = 4;
        Libc.fcntl(fd, SetFlags, Libc.ORdWr | Libc.ONonBlock);
        return (fd, Marshal.PtrToStringUTF8((nint)name)!);
    }
}

/// <summary>Bytes through a non-blocking descriptor.</summary>
public static unsafe class FdStream
{
    /// <summary>Bytes read, 0 at the end, -EAGAIN if there are none now, or another negative errno.</summary>
    public static int Read(int fd, Span<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            nint n = Libc.read(fd, p, (nuint)buffer.Length);
            return n >= 0 ? (int)n : -Libc.Errno;
        }
    }

    /// <summary>Bytes written, or a negative errno.</summary>
    public static int Write(int fd, ReadOnlySpan<byte> data)
    {
        fixed (byte* p = data)
        {
            nint n = Libc.write(fd, p, (nuint)data.Length);
            return n >= 0 ? (int)n : -Libc.Errno;
        }
    }

    /// <summary>A description of its own for an inherited descriptor, non-blocking without disturbing who shares it;
    /// the descriptor itself where that cannot be (sockets) or must not: a regular file, whose position and append mode
    /// are shared with who redirected to it, and which never blocks.</summary>
    public static int Reopen(int fd, int flags)
    {
        const int SeekCurrent = 1;
        if (Libc.lseek(fd, 0, SeekCurrent) >= 0) return fd;
        int own = Libc.open($"/proc/self/fd/{fd}", flags | Libc.ONonBlock | Libc.OCloexec | Libc.ONoCtty, 0);
        if (own >= 0) return own;
        const int GetFlags = 3, SetFlags = 4;
        Libc.fcntl(fd, SetFlags, Libc.fcntl(fd, GetFlags, 0) | Libc.ONonBlock);
        return fd;
    }
}
