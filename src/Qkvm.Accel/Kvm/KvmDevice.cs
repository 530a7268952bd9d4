using System.Diagnostics;
using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <summary>Opens /dev/kvm, and says what to do where it cannot be used.</summary>
static class KvmDevice
{
    public const string Path = "/dev/kvm";
    const int EPerm = 1, ENoEntry = 2, EAccess = 13, EBusy = 16, ENoDevice = 19;

    /// <exception cref="ConfigurationException">Owner, mode and the command that helps.</exception>
    public static int Open()
    {
        int fd = Libc.open(Path, Libc.ORdWr | Libc.OCloexec, 0);
        if (fd < 0) throw new ConfigurationException(Explain(Libc.Errno));
        int version = Libc.ioctl(fd, KvmApi.GetApiVersion, 0);
        if (version == KvmApi.Version) return fd;
        Libc.close(fd);
        throw new ConfigurationException($"-accel kvm: {Path} speaks version {version} of its interface, " +
            $"{KvmApi.Version} is needed");
    }

    public static string Explain(int errno) => errno switch
    {
        ENoEntry => $"-accel kvm: {Path} does not exist: load the module with 'sudo modprobe {Module()}'"
            + " (and enable virtualization in the firmware), or use -accel tcg",
        EAccess or EPerm =>
            $"-accel kvm: no permission for {Path} ({Ownership()}): 'sudo usermod -aG {Group()} $USER' and log in " +
            "again, or use -accel tcg",
        ENoDevice => $"-accel kvm: {Path}: this processor or its firmware offers no virtualization; use -accel tcg",
        EBusy => $"-accel kvm: {Path} is in use by another hypervisor; stop it, or use -accel tcg",
        _ => $"-accel kvm: cannot open {Path}: {Libc.Message(errno)}; use -accel tcg",
    };

    static string Module() => File.ReadAllText("/proc/cpuinfo").Contains("AuthenticAMD", StringComparison.Ordinal)
        ? "kvm_amd" : "kvm_intel";

    /// <summary>"root:kvm, mode 660".</summary>
    static string Ownership() => Stat("%U:%G, mode %a") ?? "its owner cannot be read";

    static string Group() => Stat("%G") is { } group and not "root" ? group : "kvm";

    static string? Stat(string format)
    {
        try
        {
            using Process stat =
                Process.Start(new ProcessStartInfo("stat", ["-c", format, Path]) { RedirectStandardOutput = true,
                RedirectStandardError = true })!;
            string text = stat.StandardOutput.ReadToEnd().Trim();
            stat.WaitForExit();
            return stat.ExitCode == 0 ? text : null;
        }
        catch (System.ComponentModel.Win32Exception) { return null; } // no stat program: the message does without
    }
}
