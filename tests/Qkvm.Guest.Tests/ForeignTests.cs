using System.Text.RegularExpressions;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Systems beside Linux, and boot loaders, on both machines and the software CPU, each to a mark on the serial
/// port. tests/guests/foreign.sh makes their disks; docs/foreign-systems.md has those too that show theirs elsewhere.
/// </summary>
public sealed class ForeignTests : IDisposable
{
    const string Tiny = "TINY READY", Xen = "console=com1 com1=115200,8n1 dom0_mem=192M noreboot",
        Dom0 = "console=hvc0 quiet panic=-1";

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    /// <param name="File">The one in .cache/foreign that is needed.</param>
    /// <param name="Uefi">Whether OVMF starts it.</param>
    /// <param name="Options">What is booted, beside the machine; {0} stands for the directory.</param>
    /// <param name="Steps">What happens then, in this order.</param>
    sealed record ForeignSystem(string File, bool Uefi, string[] Options, params Step[] Steps);

    /// <param name="Mark">What must come: a regular expression.</param>
    /// <param name="Reply">What is typed then.</param>
    readonly record struct Step(string Mark, string Reply = "")
    {
        public static implicit operator Step(string mark) => new(mark);
    }

    static string[] Disk(string file) => ["-drive", $"file={{0}}/{file},format=raw,snapshot=on"];

    static string[] Cd(string file) => ["-cdrom", $"{{0}}/{file}"];

    static string[] Kernel(string file, params string[] more) => ["-kernel", $"{{0}}/{file}", .. more];

    static string[] Memory(int mebibytes, string[] options) => ["-m", $"{mebibytes}", .. options];

    /// <summary>What is typed at GRUB's prompt, a line at each.</summary>
    static Step[] Grub(string mark, params string[] lines) =>
        [.. lines.Select(line => new Step("grub> ", line + "\r")), mark];

    static readonly string[] s_grubLinux = ["linux /vmlinuz console=ttyS0 quiet panic=-1", "initrd /initrd", "boot"],
        s_grubXen = [$"multiboot2 /xen {Xen}", $"module2 /vmlinuz {Dom0}", "module2 /initrd", "boot"];

    /// <summary>In the second line, from column 35, stands what part of the pass is done.</summary>
    static readonly Step[] s_memtest = [@"Memtest86\+ v6", @"\[2;35H[^%]*[1-9]\d?%"];

    static readonly Dictionary<string, ForeignSystem> s_systems = new()
    {
        ["U-Boot, 32-bit"] = new("u-boot-32.rom", false, ["-bios", "{0}/u-boot-32.rom"],
            new("stop autoboot", " "), "\n=> "),
        ["U-Boot, 64-bit"] = new("u-boot-64.rom", false, ["-bios", "{0}/u-boot-64.rom"],
            new("stop autoboot", " "), "\n=> "),
        ["Memtest86+, 64-bit"] = new("memtest86+x64.bin", false,
            Memory(64, Kernel("memtest86+x64.bin", "-device", "VGA", "-append", "console=ttyS0,115200")), s_memtest),
        ["Memtest86+, 32-bit"] = new("memtest86+ia32.bin", false,
            Memory(64, Kernel("memtest86+ia32.bin", "-append", "console=ttyS0,115200")), s_memtest),
        ["Xen"] = new("xen", false, Kernel("xen", "-append", Xen, "-initrd",
            $"{Surroundings.CardsKernel} {Dom0},{Surroundings.CardsSmallInitrd}"), @"Xen version 4\.17", Tiny),
        ["Xen, UEFI"] = new("xen.img", true, Disk("xen.img"), @"Xen version 4\.17", Tiny),
        ["SYSLINUX"] = new("syslinux.img", false, Disk("syslinux.img"), "SYSLINUX", Tiny),
        ["ISOLINUX"] = new("isolinux.iso", false, Cd("isolinux.iso"), "ISOLINUX", Tiny),
        ["GRUB, CD"] = new("grub.iso", false, Cd("grub.iso"), Grub(Tiny, s_grubLinux)),
        ["GRUB, disk, UEFI"] = new("grub.iso", true, Disk("grub.iso"), Grub(Tiny, s_grubLinux)),
        ["systemd-boot"] = new("systemd-boot.img", true, Disk("systemd-boot.img"), Tiny),
        ["iPXE, UEFI"] = new("ipxe.img", true, [.. Disk("ipxe.img"), "-netdev", "user,id=n",
            "-device", "e1000,netdev=n,romfile="],
            @"iPXE 1\.", @"net0: 10\.0\.2\.15/"),
        // Those of "foreign.sh more".
        ["GRUB's Xen, UEFI"] = new("installer-i386-linux", true, Cd("grub.iso"), Grub(Tiny, s_grubXen)),
        ["GNU Mach"] = new("installer-i386-linux", false, Cd("grub.iso"),
            Grub("No bootstrap code loaded", "multiboot /gnumach console=com0", "boot")),
        ["Debian's installer, amd64"] = Installer("amd64"),
        ["Debian's installer, i386"] = Installer("i386"),
    };

    static ForeignSystem Installer(string architecture) => new($"installer-{architecture}-linux", false,
        Memory(1024, Kernel($"installer-{architecture}-linux", "-initrd", $"{{0}}/installer-{architecture}-initrd.gz",
            "-append", "console=ttyS0")), "Choose the language");

    static readonly string s_directory = Path.Combine(Surroundings.Root, ".cache/foreign");

    const string Code = "/usr/share/OVMF/OVMF_CODE_4M.fd", Variables = "/usr/share/OVMF/OVMF_VARS_4M.fd";

    static bool IsThere(ForeignSystem system) =>
        File.Exists(Path.Combine(s_directory, system.File)) && (!system.Uefi || File.Exists(Code));

    sealed class ForeignTheoryAttribute() : ConditionalTheoryAttribute(Surroundings.WithoutProgram
        ?? (s_systems.Values.Any(IsThere) ? null
        : "needs .cache/foreign: tests/guests/foreign.sh .cache/foreign makes it"));

    /// <summary>Every system that is there, on both machines.</summary>
    public static TheoryData<string, string> Cases
    {
        get
        {
            var cases = new TheoryData<string, string>();
            foreach ((string name, ForeignSystem system) in s_systems.Where(system => IsThere(system.Value)))
                foreach (string machine in (string[])["pc", "q35"])
                    cases.Add(name, machine);
            return cases;
        }
    }

    [ForeignTheory, MemberData(nameof(Cases))]
    public void It_boots_to_its_mark(string name, string machine)
    {
        ForeignSystem system = s_systems[name];
        using GuestProcess guest = GuestProcess.Start(["-accel", "tcg", "-M", machine, "-m", "512", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", .. system.Uefi ? Flash() : [],
            .. system.Options.Select(option => option.Replace("{0}", s_directory, StringComparison.Ordinal))]);
        int from = 0;
        foreach (Step step in system.Steps)
        {
            Match found = guest.Expect(new Regex(step.Mark, RegexOptions.Singleline), from);
            from = found.Index + found.Length;
            guest.Send(step.Reply);
        }
    }

    string[] Flash() => ["-drive", $"if=pflash,format=raw,unit=0,readonly=on,file={Code}", "-drive",
        $"if=pflash,format=raw,unit=1,file={_files.Write("vars.fd", File.ReadAllBytes(Variables))}"];
}
