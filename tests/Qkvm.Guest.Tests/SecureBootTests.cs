using System.Diagnostics;
using System.Text.RegularExpressions;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Debian's OVMF that keeps its variables by system management mode, in flash that nothing else can
/// write.</summary>
public sealed class SecureBootTests : IDisposable
{
    const string Directory = "/usr/share/OVMF/", Code = Directory + "OVMF_CODE_4M.secboot.fd",
        Vendor = "11111111-2222-3333-4444-555555555555", Key = "/usr/share/ovmf/PkKek-1-snakeoil";

    static string? Without(string? whyNot) => whyNot ?? (File.Exists(Code) ? null : $"needs {Code} (Debian: ovmf)");

    sealed class SecureTheoryAttribute() : ConditionalTheoryAttribute(Without(Surroundings.WithoutProgram));

    sealed class SecureFactAttribute() : ConditionalFactAttribute(Without(Surroundings.WithoutProgram));

    sealed class SignedFactAttribute() : ConditionalFactAttribute(Without(Surroundings.WithoutTiny())
        ?? Surroundings.Without("osslsigncode", "osslsigncode"));

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    [SecureTheory]
    [InlineData(1)] [InlineData(3)]
    public void A_variable_that_the_shell_sets_is_there_after_a_restart(int processors)
    {
        string[] options = [.. Flash("OVMF_VARS_4M.fd"), "-smp", $"{processors}"];
        using (GuestProcess guest = Start(options))
        {
            Type(guest, 1, $"setvar Kept -guid {Vendor} -nv -bs =0x13579BDF");
            Type(guest, 2, "reset -s");
            Assert.Equal(0, guest.WaitExit());
        }
        using (GuestProcess guest = Start(options))
        {
            Type(guest, 1, $"setvar Kept -guid {Vendor}");
            guest.Expect(new Regex("DF 9B 57 13"), 0);
            Type(guest, 2, "reset -s");
            Assert.Equal(0, guest.WaitExit());
        }
    }

    /// <summary>With Microsoft's keys alone the shell, which nobody has signed, is not to be started.</summary>
    [SecureFact]
    public void What_is_not_signed_is_not_started()
    {
        using GuestProcess guest = Start(Flash("OVMF_VARS_4M.ms.fd"));
        guest.Expect("failed to start");
        guest.Expect("Security Violation");
    }

    /// <summary>By Debian's key for such tests.</summary>
    [SignedFact]
    public void Linux_finds_Secure_Boot_enabled()
    {
        string kernel = _files["signed.efi"];
        using (var sign = Process.Start("osslsigncode", ["sign", "-h", "sha256", "-certs", $"{Key}.pem", "-key",
            $"{Key}.key", "-pass", "snakeoil", "-in", Surroundings.Kernel, "-out", kernel]))
        {
            sign.WaitForExit();
            Assert.Equal(0, sign.ExitCode);
        }
        using GuestProcess guest = Start([.. Flash("OVMF_VARS_4M.snakeoil.fd"), "-smp", "2", "-no-reboot", "-kernel",
            kernel, "-initrd", Surroundings.Initrd, "-append", "console=ttyS0 panic=-1"]);
        guest.Expect("secureboot: Secure boot enabled");
        guest.Expect("TINY READY");
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    /// <summary>The firmware, and its variables as they begin.</summary>
    string[] Flash(string template) => ["-global", "driver=cfi.pflash01,property=secure,value=on",
        "-drive", $"if=pflash,format=raw,unit=0,readonly=on,file={Code}", "-drive",
        $"if=pflash,format=raw,unit=1,file={_files.Write("vars.fd", File.ReadAllBytes(Directory + template))}"];

    static GuestProcess Start(string[] more) => GuestProcess.Start(["-accel", "tcg", "-M", "q35,smm=on", "-m", "256",
        "-nodefaults", "-display", "none", "-serial", "stdio", "-net", "none", .. more]);

    /// <summary>At the shell's prompt of that number.</summary>
    static void Type(GuestProcess guest, int prompt, string line)
    {
        guest.Expect(new Regex($"(Shell>.*?){{{prompt}}}", RegexOptions.Singleline), 0);
        guest.Send(line + "\r");
    }
}
