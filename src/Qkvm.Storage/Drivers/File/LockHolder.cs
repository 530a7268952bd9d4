using Qkvm.Host;

namespace Qkvm.Storage.Drivers.File;

/// <summary>Finds who holds a lock. Open-file-description locks have no process id in /proc/locks, but each open file
/// lists its own in /proc/PID/fdinfo (proc(5)).</summary>
static class LockHolder
{
    /// <summary>" by process 1234 (qemu-system-x86_64)", or nothing where it cannot be seen.</summary>
    public static string Describe(in FileStatus image, long lockByte)
    {
        string itself = "";
        foreach (string directory in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(directory), out int pid) || !Holds(directory, image, lockByte)) continue;
            if (pid != Environment.ProcessId) return $" by process {pid} ({Command(directory)})";
            itself = " by another drive of this machine";         // or this open file, which is asking
        }
        return itself;
    }

    static bool Holds(string process, in FileStatus image, long lockByte)
    {
        try
        {
            foreach (string fd in Directory.EnumerateFileSystemEntries(process + "/fd"))
                if (HostFile.TryStatus(fd, out FileStatus status, out _) && status.Inode == image.Inode
                    && status.Device == image.Device
                    && HasLock($"{process}/fdinfo/{Path.GetFileName(fd)}", lockByte)) return true;
        }
        // another user's, or gone
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return false; }
        return false;
    }

    /// <summary>Lines such as "lock:	1: OFDLCK  ADVISORY  READ -1 fe:00:11665492 100 101".</summary>
    static bool HasLock(string fdinfo, long lockByte)
    {
        foreach (string line in System.IO.File.ReadLines(fdinfo))
        {
            if (!line.StartsWith("lock:", StringComparison.Ordinal)) continue;
            string[] words = line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
            if (words.Length >= 2 && long.TryParse(words[^2], out long first) && first <= lockByte
                && (words[^1] == "EOF" || (long.TryParse(words[^1], out long last) && last >= lockByte))) return true;
        }
        return false;
    }

    static string Command(string process)
    {
        try
        {
            string line = System.IO.File.ReadAllText(process + "/cmdline");
            string name = Path.GetFileName(line.Split('\0')[0]);
            return name.Length > 0 ? name : System.IO.File.ReadAllText(process + "/comm").Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return "?"; }
    }
}
