using Microsoft.Win32.SafeHandles;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Control.Commands;

/// <summary>A file that a command writes. The machine waits for the command, and the command for nobody: a pipe
/// without a reader, or one that is full, is an error.</summary>
static class OutputFile
{
    const int ForAll = 0x1B6;                                      // 0666, less the umask

    /// <param name="complaint">What stands before the path where it cannot be made.</param>
    /// <exception cref="CommandException">With the host's reason.</exception>
    public static void Write(string path, Action<FileStream> write, string complaint = "Could not open")
    {
        int fd = Open(path, complaint, ForAll);
        try
        {
            using var file = new FileStream(new SafeFileHandle(fd, ownsHandle: true), FileAccess.Write);
            write(file);
        }
        catch (IOException e) { throw new CommandException($"Could not write '{path}': {e.Message}", inner: e); }
    }

    /// <summary>For what is written on a thread that may wait.</summary>
    /// <param name="rights">Of a new file, less the umask.</param>
    /// <param name="complaint">What stands before the path where it cannot be made.</param>
    /// <exception cref="CommandException">With the host's reason.</exception>
    public static FileStream Create(string path, UnixFileMode rights, string complaint = "Could not open")
    {
        const int setStatusFlags = 4;
        int fd = Open(path, complaint, (int)rights);
        Libc.FileFlags(fd, setStatusFlags, 0);
        return new FileStream(new SafeFileHandle(fd, ownsHandle: true), FileAccess.Write, bufferSize: 0);
    }

    static int Open(string path, string complaint, int rights)
    {
        if (path.Contains('\0')) throw Failed(Libc.EInval);
        int fd = Libc.open(path, Libc.OWrOnly | Libc.OCreat | Libc.OTrunc | Libc.ONonBlock | Libc.OCloexec, rights);
        return fd >= 0 ? fd : throw Failed(Libc.Errno);

        CommandException Failed(int errno) => new($"{complaint} '{path}': {Libc.Message(errno)}");
    }
}
