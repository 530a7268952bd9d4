using System.Runtime.InteropServices;

namespace Qkvm.Host.Sandboxing;

/// <summary>Where this process' file names begin.</summary>
public static partial class Root
{
    /// <exception cref="HostException">The host does not let it.</exception>
    public static void Change(string directory)
    {
        if (chroot(directory) < 0) throw new HostException("chroot failed", Libc.Errno);
        Environment.CurrentDirectory = "/";
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int chroot(string directory);
}
