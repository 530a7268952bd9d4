using System.Text.RegularExpressions;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Needs swtpm, and the tiny Linux guest, whose kernel has the drivers.</summary>
sealed class SwtpmTheoryAttribute()
    : ConditionalTheoryAttribute(Surroundings.WithoutTiny() ?? Surroundings.Without("swtpm", "swtpm"));

/// <summary>Debian's swtpm behind our devices: the firmware measures into it, and Linux's drivers use it.</summary>
public sealed class TpmTests
{
    [SwtpmTheory]
    [InlineData("pc", "tpm-tis", "2", "sha256")]
    [InlineData("q35", "tpm-crb", "2", "sha256")]
    [InlineData("pc", "tpm-tis", "1", "")]
    public void Firmware_and_Linux_use_the_TPM(string machine, string device, string version, string bank)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["socket"];
        using GuestProcess swtpm = GuestProcess.StartOther("swtpm", ["socket", "--tpmstate", $"dir={directory["."]}",
            "--ctrl", $"type=unixio,path={socket}", "--terminate", .. version == "2" ? new[] { "--tpm2" } : []]);
        Assert.True(SpinWait.SpinUntil(() => File.Exists(socket), Surroundings.Patience));
        using GuestProcess guest = GuestProcess.Start("-M", machine, "-accel", "tcg", "-m", "256M", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.Kernel,
            "-initrd", Surroundings.Initrd, "-append", "console=ttyS0 quiet panic=-1",
            "-chardev", $"socket,id=c,path={socket}", "-tpmdev", "emulator,id=t,chardev=c",
            "-device", $"{device},tpmdev=t", "-monitor", $"unix:{directory["monitor"]},server=on,wait=off");
        guest.Expect("TINY READY");
        guest.Send("ls -l /dev/tpm0; echo VERSION $(cat /sys/class/tpm/tpm0/tpm_version_major)\n");
        Assert.Equal(version, guest.Value("VERSION", @"\d"));
        guest.Send("mount -t securityfs none /sys/kernel/security; " +
            "echo LOGGED $(wc -c </sys/kernel/security/tpm0/binary_bios_measurements)\n");
        Assert.InRange(int.Parse(guest.Value("LOGGED", @"\d+")), 100, 64 << 10);
        if (bank.Length > 0)
        {
            // What the firmware measured of itself: no register of all zeros.
            guest.Send($"echo MEASURED $(cat /sys/class/tpm/tpm0/pcr-{bank}/0)\n");
            Assert.Contains(guest.Value("MEASURED", "[0-9A-F]{64}"), digit => digit != '0');
        }
        using (var monitor = new MonitorClient(directory["monitor"]))
            Assert.Equal($"TPM device:\n tpm0: model={device}\n  \\ t: type=emulator,chardev=c",
                monitor.Run("info tpm").ReplaceLineEndings("\n"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
        Assert.Equal(0, swtpm.WaitExit());                         // we have taken leave
    }
}
