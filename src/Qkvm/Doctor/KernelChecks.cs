namespace Qkvm.Doctor;

/// <summary>What the kernel gives a process.</summary>
static class KernelChecks
{
    public static Finding HugePages(HostView host)
    {
        const string transparent = "/sys/kernel/mm/transparent_hugepage/enabled",
            reserved = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
        string usual = host.Read(transparent) ?? "";
        string pages = host.Read(reserved + "nr_hugepages") is { } number and not "0"
            ? $"{host.Read(reserved + "free_hugepages")} of {number} reserved pages of 2 MiB are free (-mem-path "
                + "/dev/hugepages)"
            : "none are reserved";
        return usual.Contains("[never]", StringComparison.Ordinal)
            ? Finding.Fair($"the kernel makes no huge pages by itself, which slows guests; {pages}",
                $"echo madvise | sudo tee {transparent}")
            : Finding.Good($"{(usual == "" ? "" : "guests get them where they can; ")}{pages}");
    }

    public static Finding IoRing(HostView host)
    {
        if (host.HasIoRing()) return Finding.Good("disks use it (aio=io_uring)");
        return host.Read("/proc/sys/kernel/io_uring_disabled") is "1" or "2"
            ? Finding.Fair("the kernel forbids it; disks use threads", "sudo sysctl kernel.io_uring_disabled=0")
            : Finding.Fair("the kernel has none, or a filter of system calls forbids it; disks use threads");
    }

    public static Finding Limits(HostView host)
    {
        const int enough = 4096;
        const string file = "/proc/self/limits";
        string[] words = (host.Read(file)?.Split('\n').FirstOrDefault(line => line.StartsWith("Max open files",
            StringComparison.Ordinal)) ?? "").Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length < 5 || !long.TryParse(words[4], out long most)) return Finding.Good("open files: no limit");
        return most >= enough ? Finding.Good($"open files: up to {most}")
            : Finding.Fair($"open files: {most} at most, which is few for many disks and queues",
                "echo '* hard nofile 65536' | sudo tee /etc/security/limits.d/qkvm.conf");
    }
}
