using System.Text.RegularExpressions;
using Qkvm.Host;

namespace Qkvm.Doctor;

/// <summary>What guests run on: this machine's processors and memory, and KVM.</summary>
static partial class ProcessorChecks
{
    const string Info = "/proc/cpuinfo";

    public static Finding Processor(HostView host)
    {
        if (HostFeatures.Complaint is { } complaint) return Finding.Missing(complaint);
        string text = host.Read(Info) ?? "";
        string name = Name().Match(text) is { Success: true } match ? match.Groups[1].Value : "x86-64";
        int count = Numbers().Count(text);
        string where = Has(text, "hypervisor") ? ", itself in a virtual machine" : "";
        return Finding.Good($"{name}, {count} CPU{(count == 1 ? "" : "s")}{where}: the software CPU runs here");
    }

    public static Finding Memory(HostView host)
    {
        const string file = "/proc/meminfo";
        long total = host.Number(file, "MemTotal") / 1024 ?? 0, free = host.Number(file, "MemAvailable") / 1024 ?? 0;
        string text = $"{free} of {total} MiB are free for guests";
        return host.Read("/proc/sys/vm/overcommit_memory") == "2"
            ? Finding.Fair($"{text}; the kernel promises no more than it has, so that guests need all of -m at once",
                "sudo sysctl vm.overcommit_memory=0")
            : Finding.Good(text);
    }

    public static Finding Kvm(HostView host)
    {
        string text = host.Read(Info) ?? "";
        bool isVisible = Has(text, "svm") || Has(text, "vmx");
        if (host.TryKvm() is not { } why)
            return isVisible ? Finding.Good("/dev/kvm makes machines: -enable-kvm runs guests on the processor itself")
                : Finding.Fair("/dev/kvm makes machines, but the processor shows no virtualization: what is behind it "
                    + "may be slow; compare -accel kvm with -accel tcg");
        string[] words = why.Split(": ", 2);
        why = words[0].StartsWith("-accel", StringComparison.Ordinal) ? words[^1] : why;
        Match command = Command().Match(why);
        if (!host.Exists("/dev/kvm") && !isVisible)
            return Finding.Missing(Has(text, "hypervisor")
                ? "no /dev/kvm, and this virtual machine's processor has no virtualization: who runs it has to "
                    + "switch nested virtualization on. Guests run on the software CPU"
                : "no /dev/kvm, and the processor shows no virtualization: its firmware's setup may switch it on. "
                    + "Guests run on the software CPU");
        return Finding.Missing(why, command.Success ? command.Groups[1].Value : null);
    }

    public static Finding Nested(HostView host)
    {
        foreach (string module in (string[])["kvm_intel", "kvm_amd"])
            if (host.Read($"/sys/module/{module}/parameters/nested") is { } value)
                return value is "Y" or "1" ? Finding.Good($"{module} lets guests have KVM, too (-cpu host)")
                    : Finding.Fair($"{module} lets no guest have KVM of its own", $"echo 'options {module} nested=1' | "
                        + $"sudo tee /etc/modprobe.d/kvm-nested.conf && sudo modprobe -r {module} && "
                        + $"sudo modprobe {module}");
        return Finding.Fair("no KVM module is loaded; the software CPU has AMD's virtualization (-cpu max,+svm)");
    }

    static bool Has(string cpuinfo, string flag) => Regex.IsMatch(cpuinfo, $@"^flags\s*:.*\b{flag}\b",
        RegexOptions.Multiline);

    [GeneratedRegex(@"^model name\s*: (.+)$", RegexOptions.Multiline)]
    private static partial Regex Name();

    [GeneratedRegex(@"^processor\s*:", RegexOptions.Multiline)]
    private static partial Regex Numbers();

    [GeneratedRegex("'(sudo [^']+)'")]
    private static partial Regex Command();
}
