using System.Text.RegularExpressions;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Debian's OVMF in flash: its shell, its variables, and a kernel that it starts.</summary>
public sealed class UefiTests : IDisposable
{
    const string Code = "/usr/share/OVMF/OVMF_CODE_4M.fd", Variables = "/usr/share/OVMF/OVMF_VARS_4M.fd",
        Vendor = "11111111-2222-3333-4444-555555555555";

    static string? Without(string? whyNot) => whyNot ?? (File.Exists(Code) ? null : $"needs {Code} (Debian: ovmf)");

    sealed class UefiTheoryAttribute() : ConditionalTheoryAttribute(Without(Surroundings.WithoutProgram));

    sealed class UefiFactAttribute() : ConditionalFactAttribute(Without(Surroundings.WithoutProgram));

    sealed class UefiTinyFactAttribute() : ConditionalFactAttribute(Without(Surroundings.WithoutTiny()));

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    [UefiTheory]
    [InlineData("pc")] [InlineData("q35")]
    public void A_variable_that_the_shell_sets_is_there_after_a_restart(string machine)
    {
        string variables = _files.Write("vars.fd", File.ReadAllBytes(Variables));
        string[] flash = ["-drive", $"if=pflash,format=raw,unit=0,readonly=on,file={Code}",
            "-drive", $"if=pflash,format=raw,unit=1,file={variables}"];
        using (GuestProcess guest = Start(machine, flash))
        {
            Type(guest, 1, $"setvar Kept -guid {Vendor} -nv -bs =0x13579BDF");
            Type(guest, 2, "reset -s");
            Assert.Equal(0, guest.WaitExit());
        }
        using (GuestProcess guest = Start(machine, flash))
        {
            Type(guest, 1, $"setvar Kept -guid {Vendor}");
            guest.Expect(new Regex("DF 9B 57 13"), 0);
            Type(guest, 2, "reset -s");
            Assert.Equal(0, guest.WaitExit());
        }
    }

    [UefiFact]
    public void Variables_of_a_machine_that_runs_are_locked()
    {
        string variables = _files.Write("vars.fd", File.ReadAllBytes(Variables));
        File.Copy(Code, _files["code.fd"]);
        using GuestProcess first = Start("q35", ["-monitor", "stdio", "-pflash", _files["code.fd"],
            "-drive", $"if=pflash,format=raw,file={variables}"], serial: "none");
        first.Expect("monitor");
        using GuestProcess second = Start("q35", ["-drive", $"if=pflash,format=raw,unit=0,readonly=on,file={Code}",
            "-drive", $"if=pflash,format=raw,unit=1,file={variables}"]);
        Assert.Equal(1, second.WaitExit());
        Assert.Contains(variables, second.Errors, StringComparison.Ordinal);
        Assert.Contains("lock", second.Errors, StringComparison.Ordinal);
    }

    [UefiTinyFact]
    public void Firmware_uefi_starts_a_kernel_by_its_EFI_stub()
    {
        using GuestProcess guest = Start("q35,firmware=uefi", ["-kernel", Surroundings.Kernel, "-initrd",
            Surroundings.Initrd, "-append", "console=ttyS0 quiet panic=-1", "-no-reboot"]);
        guest.Expect("TINY READY");
        guest.Send("echo RUNTIME $(cat /sys/firmware/efi/fw_platform_size); poweroff -f\n");
        guest.Expect(new Regex("^RUNTIME 64", RegexOptions.Multiline), 0);
        Assert.Equal(0, guest.WaitExit());
    }

    static GuestProcess Start(string machine, string[] more, string serial = "stdio") => GuestProcess.Start(
        ["-accel", "tcg", "-M", machine, "-m", "256", "-nodefaults", "-display", "none", "-serial", serial, .. more]);

    /// <summary>At the shell's prompt of that number. The shell's line editor takes characters one by one.</summary>
    static void Type(GuestProcess guest, int prompt, string line)
    {
        guest.Expect(new Regex($"(Shell>.*?){{{prompt}}}", RegexOptions.Singleline), 0);
        guest.Send(line + "\r");
    }
}
