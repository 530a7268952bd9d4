using Qkvm.Cli;
using Qkvm.Control.Commands;
using Qkvm.Img;

namespace Qkvm.Manual;

/// <summary>qkvm man: the pages of the manual, made from the catalogues.</summary>
static class Manual
{
    public const string Word = "man";

    const string Usage = """
        usage: qkvm man [img]
        Prints the manual page qkvm(1), or qkvm-img(1), for man:
          qkvm man | man -l -
        """;

    /// <returns>The status to end with.</returns>
    public static int Run(string[] words, TextWriter output, TextWriter errors)
    {
        switch (words)
        {
            case ["-h" or "-help" or "--help"]: output.WriteLine(Usage); return 0;
            case []: output.Write(Machine()); return 0;
            case ["img"]: output.Write(ImageManual()); return 0;
            default:
                errors.WriteLine($"qkvm man {string.Join(' ', words)}: expects nothing, or img");
                return 1;
        }
    }

    static RoffWriter Machine()
    {
        var page = new RoffWriter("qkvm", ProgramVersion.Text);
        page.Section("Name");
        page.Paragraph("qkvm - runs PCs as processes, with the command line of qemu-system-x86_64");
        page.Section("Synopsis");
        page.Item("qkvm", "[options] [disk_image]", "runs a machine");
        page.Item("qkvm img", "command [options]", "works on images; see qkvm-img(1)");
        page.Item("qkvm nbd", "[options] file", "serves an image by NBD");
        page.Item("qkvm doctor", "[--json]", "says what this host can do for guests, and what mends the rest");
        page.Item("qkvm completion", "bash|zsh|fish", "prints what teaches a shell to complete command lines");
        page.Section("Description");
        page.Paragraph("qkvm emulates x86-64 PCs and takes QEMU's options, monitor commands and machine protocol. "
            + "Guests run on a software CPU, or on KVM with -enable-kvm. Options begin with one dash or two. What "
            + "QEMU has and qkvm has not is refused by a line that says so.");
        page.Section("Options");
        foreach ((string section, OptionSpec[] options) in OptionCatalogue.Sections)
        {
            page.Part(section);
            foreach (OptionSpec option in options.Where(option => option.NotYet == null))
                page.Item($"-{option.Name}", option.Argument ?? "", option.Help);
        }
        page.Section("Keys");
        page.Paragraph("Where monitor and serial port share the terminal (-nographic, -serial mon:stdio):");
        page.Item("ctrl-a h", "", "lists these keys");
        page.Item("ctrl-a x", "", "quits");
        page.Item("ctrl-a c", "", "goes to the monitor and back");
        page.Item("ctrl-a b", "", "sends a break");
        page.Item("ctrl-a ctrl-a", "", "sends ctrl-a");
        page.Section("Exit status");
        page.Paragraph("0 when the machine was shut down or quit, 1 when it could not start or go on; what a guest "
            + "writes to isa-debug-exit gives others.");
        page.Section("Environment");
        page.Item("NO_COLOR", "", "without colours, if it is set");
        page.Section("Examples");
        page.Example("qkvm disk.qcow2 -smp 2 -m 1G -nographic\n"
            + "qkvm disk.qcow2 -enable-kvm -smp 2 -m 2G -device virtio-net-pci,netdev=n -netdev user,id=n\n"
            + "qkvm -M q35 -drive file=cloud.qcow2,if=virtio -cloud-init ssh-key=id.pub,hostname=web1 -nographic");
        page.Section("See also");
        page.Paragraph("qkvm-img(1), qemu-system-x86_64(1)");
        return page;
    }

    static RoffWriter ImageManual()
    {
        var page = new RoffWriter("qkvm-img", ProgramVersion.Text);
        page.Section("Name");
        page.Paragraph("qkvm-img - works on disk images, with the command line of qemu-img");
        page.Section("Synopsis");
        page.Item("qkvm img", "command [options]", "");
        page.Item("qkvm-img", "command [options]", "the same, by a link of that name");
        page.Section("Commands");
        foreach ((string name, string usage) in ImageTool.Subcommands) page.Item(name, usage, "");
        page.Section("Formats");
        page.Paragraph($"{string.Join(", ", Catalogue.BlockDrivers.Complete(""))}");
        page.Section("Exit status");
        page.Paragraph("0 when all went well, 1 when not; check and compare have codes for what they found, which "
            + "qemu-img(1) lists.");
        page.Section("Examples");
        page.Example("qkvm img create -f qcow2 disk.qcow2 20G\n"
            + "qkvm img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2\n"
            + "qkvm img convert -p -O qcow2 disk.vmdk disk.qcow2\n"
            + "qkvm img info --output json disk.qcow2");
        page.Section("See also");
        page.Paragraph("qkvm(1), qemu-img(1)");
        return page;
    }
}
