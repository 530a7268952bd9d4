using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests;

/// <summary>An unmodified Debian kernel and busybox, by -kernel and -initrd, on the software CPU.</summary>
public sealed class LinuxBootTests
{
    [TinyFact]
    public void Linux_reaches_userland_on_one_processor_with_256_MiB_and_powers_off() => Boot(1, 256, "tiny=poweroff");

    [TinyFact]
    public void Linux_reaches_userland_on_two_processors_with_1_GiB_and_powers_off() => Boot(2, 1024, "tiny=poweroff");

    // RAM is split at 3 GiB: most of what is above 4 GiB in the first case, little in relation to the rest.
    [TinyFact(gibibytes: 6)]
    public void Memory_above_4_GiB_keeps_what_is_written_with_5_GiB() => CheckMemory(1, 5 * 1024);

    [TinyFact(gibibytes: 9)]
    public void Memory_above_4_GiB_keeps_what_is_written_with_8_GiB() => CheckMemory(2, 8 * 1024);

    static void CheckMemory(int cpus, int megabytes) =>
        Assert.Contains("TINY MEM OK mib=30", Boot(cpus, megabytes, "tiny=memtest tiny.mib=30"),
            StringComparison.Ordinal);

    /// <returns>All that the guest printed.</returns>
    static string Boot(int cpus, int megabytes, string todo)
    {
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-smp", $"{cpus}", "-m", $"{megabytes}M",
            "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.Kernel, "-initrd",
                Surroundings.Initrd,
            "-append", $"console=ttyS0 quiet panic=-1 {todo}");
        Match ready = Regex.Match(guest.Expect("TINY READY"), @"^TINY READY cpus=(\d+) mem=(\d+)$");
        Assert.True(ready.Success, guest.Output);
        Assert.Equal(cpus, int.Parse(ready.Groups[1].Value));
        // The kernel keeps some for itself, and reports the rest in KiB.
        Assert.InRange(int.Parse(ready.Groups[2].Value), megabytes * 1024 * 3L / 4, megabytes * 1024L);
        Assert.Equal(0, guest.WaitExit());
        return guest.Output;
    }
}
