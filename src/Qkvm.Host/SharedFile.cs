using Microsoft.Win32.SafeHandles;

namespace Qkvm.Host;

/// <summary>A regular file below a folder, for reading, whatever a stranger's name for it says: "..", links and all
/// that is no plain file lead nowhere.</summary>
public sealed unsafe class SharedFile : IDisposable
{
    const int PathOnly = 0x200000;                                 // O_PATH: nothing happens to what is opened

    readonly SafeFileHandle _file;

    SharedFile(SafeFileHandle file) => (_file, Length) = (file, RandomAccess.GetLength(file));

    /// <summary>Bytes, when it was opened.</summary>
    public long Length { get; }

    /// <param name="name">Of the file below the folder; a slash in front does not count.</param>
    /// <returns>Null: there is no such file (<paramref name="exists"/> is false), or nobody may read it.</returns>
    public static SharedFile? Open(string folder, string name, out bool exists)
    {
        exists = true;
        if (name.Contains('\0') || name.Length == 0) return null;
        using SafeFileHandle root = Locate(folder), found = Locate(folder + "/" + name);
        exists = !found.IsInvalid;
        if (!exists || root.IsInvalid) return null;
        // The kernel says where the names led, links included; nothing can change that any more.
        string within = PathOf(root).TrimEnd('/') + "/";
        if (!PathOf(found).StartsWith(within, StringComparison.Ordinal)) return null;
        FileStatus status;                                         // SAFETY: written during the call
        if (Libc.fstat((int)found.DangerousGetHandle(), &status) < 0 || !status.IsRegularFile) return null;
        try
        {
            return new SharedFile(File.OpenHandle(LinkOf(found), share: FileShare.ReadWrite | FileShare.Delete));
        }
        catch (IOException) { return null; }
        catch (UnauthorizedAccessException) { return null; }
    }

    /// <returns>Bytes, fewer than asked for at the end; negative if it cannot be read.</returns>
    public int Read(long offset, Span<byte> target)
    {
        try { return RandomAccess.Read(_file, target, offset); }
        catch (IOException) { return -1; }
    }

    public void Dispose() => _file.Dispose();

    static SafeFileHandle Locate(string path) => new(Libc.open(path, PathOnly | Libc.OCloexec, 0), ownsHandle: true);

    static string LinkOf(SafeFileHandle file) => $"/proc/self/fd/{file.DangerousGetHandle()}";

    static string PathOf(SafeFileHandle file) => new FileInfo(LinkOf(file)).LinkTarget ?? "";
}
