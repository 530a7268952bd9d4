using System.Text.Json;
using Qkvm.Doctor;

namespace Qkvm.Tests;

/// <summary>qkvm doctor beside hosts made of files.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class DoctorTests : IDisposable
{
    readonly string _root = Directory.CreateTempSubdirectory("qkvm-doctor-").FullName;
    HostView _host;

    public DoctorTests()
    {
        _host = new HostView(_root)
        {
            TryKvm = () => "-accel kvm: no KVM", HasIoRing = () => true, TryOpen = _ => null, IsRoot = false,
            ProgramDirectories = ["/bin"],
        };
        Write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu svm\n\nprocessor\t: 1\n"
            + "flags\t\t: fpu svm\n");
        Write("/proc/meminfo", "MemTotal:  2048000 kB\nMemAvailable: 1024000 kB\n");
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    void Write(string path, string text = "")
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_root + path)!);
        File.WriteAllText(_root + path, text);
    }

    Finding Look(string name) => Doctor.Doctor.Checks.First(check => check.Name == name).Look(_host);

    [Fact]
    public void The_processor_and_memory_are_named()
    {
        Assert.Equal("A CPU, 2 CPUs: the software CPU runs here", Look("processor").Text);
        Assert.Equal(new Finding(Health.Good, "1000 of 2000 MiB are free for guests"), Look("memory"));
        Write("/proc/sys/vm/overcommit_memory", "2\n");
        Assert.Equal("sudo sysctl vm.overcommit_memory=0", Look("memory").Mend);
    }

    [Fact]
    public void Kvm_is_good_or_says_what_helps()
    {
        _host = _host with { TryKvm = () => null };
        Assert.Equal(Health.Good, Look("kvm").Health);
        Write("/proc/cpuinfo", "flags : fpu hypervisor");
        Assert.Contains("shows no virtualization: what is behind it may be slow", Look("kvm").Text);
        Write("/dev/kvm");
        _host = _host with { TryKvm = () => "-accel kvm: no permission for /dev/kvm (root:kvm, mode 660): "
            + "'sudo usermod -aG kvm $USER' and log in again, or use -accel tcg" };
        Finding denied = Look("kvm");
        Assert.Equal((Health.Missing, "sudo usermod -aG kvm $USER"), (denied.Health, denied.Mend));
        Assert.StartsWith("no permission for /dev/kvm", denied.Text);
    }

    [Theory]
    [InlineData("flags : fpu hypervisor", "who runs it has to switch nested virtualization on")]
    [InlineData("flags : fpu", "its firmware's setup may switch it on")]
    public void Without_virtualization_there_is_nothing_to_load(string flags, string reason)
    {
        Write("/proc/cpuinfo", flags);
        Finding finding = Look("kvm");
        Assert.Contains(reason, finding.Text);
        Assert.Null(finding.Mend);
    }

    [Theory]
    [InlineData("kvm_intel", "Y", Health.Good)] [InlineData("kvm_amd", "1", Health.Good)]
    [InlineData("kvm_amd", "0", Health.Fair)] [InlineData("kvm_intel", "N", Health.Fair)]
    public void Nested_virtualization_is_read_from_the_module(string module, string value, object health)
    {
        Write($"/sys/module/{module}/parameters/nested", value + "\n");
        Finding finding = Look("nested");
        Assert.Equal(health, finding.Health);
        Assert.Equal(finding.Health == Health.Fair, finding.Mend?.Contains($"modprobe -r {module}") ?? false);
    }

    [Fact]
    public void Taps_need_their_device_and_root()
    {
        Assert.Equal((Health.Missing, "sudo modprobe tun"), (Look("tap").Health, Look("tap").Mend));
        Write("/dev/net/tun");
        Assert.Equal("sudo ip tuntap add dev tap0 mode tap user $USER", Look("tap").Mend);
        _host = _host with { TryOpen = _ => "Permission denied" };
        Assert.Equal("sudo chmod 666 /dev/net/tun", Look("tap").Mend);
        _host = _host with { TryOpen = _ => null, IsRoot = true };
        Write("/etc/qemu-ifup");
        Assert.Equal("-netdev tap makes interfaces; /etc/qemu-ifup wires them", Look("tap").Text);
    }

    [Fact]
    public void A_bridge_needs_its_helper_the_right_and_a_line()
    {
        const string helper = "/usr/lib/qemu/qemu-bridge-helper";
        Assert.Equal("sudo apt-get install qemu-system-common", Look("bridge").Mend);
        Write(helper);
        Assert.Equal($"sudo chmod u+s {helper}", Look("bridge").Mend);
        File.SetUnixFileMode(_root + helper, UnixFileMode.SetUser | UnixFileMode.UserRead);
        Directory.CreateDirectory(_root + "/sys/class/net/virbr7/bridge");
        Directory.CreateDirectory(_root + "/sys/class/net/eth0");
        Assert.Equal("echo 'allow virbr7' | sudo tee -a /etc/qemu/bridge.conf", Look("bridge").Mend);
        Write("/etc/qemu/bridge.conf", "# ours\nallow virbr7\n");
        Assert.Equal(new Finding(Health.Good, "-netdev bridge,br=virbr7 works without root: allow virbr7"),
            Look("bridge"));
        Directory.Delete(_root + "/sys/class/net/virbr7", recursive: true);
        Assert.StartsWith("sudo ip link add br0 type bridge", Look("bridge").Mend);
    }

    [Fact]
    public void What_the_kernel_gives_is_read()
    {
        Write("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
        Assert.Equal(Health.Fair, Look("huge-pages").Health);
        Write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        Write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8\n");
        Write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "5\n");
        Assert.Contains("5 of 8 reserved pages of 2 MiB are free", Look("huge-pages").Text);
        Write("/proc/self/limits", "Max open files            1024                 2048                 files\n");
        Assert.Equal(Health.Fair, Look("limits").Health);
        Write("/proc/self/limits", "Max open files            1024                 65536                files\n");
        Assert.Equal(new Finding(Health.Good, "open files: up to 65536"), Look("limits"));
        _host = _host with { HasIoRing = () => false };
        Assert.Null(Look("io_uring").Mend);
        Write("/proc/sys/kernel/io_uring_disabled", "2\n");
        Assert.Equal("sudo sysctl kernel.io_uring_disabled=0", Look("io_uring").Mend);
        Assert.Equal("sudo modprobe vhost_vsock", Look("vsock").Mend);
        Write("/dev/vhost-vsock");
        Assert.Equal(Health.Good, Look("vsock").Health);
    }

    [Fact]
    public void Programs_are_found_where_they_lie()
    {
        Assert.Equal("sudo apt-get install swtpm", Look("tpm").Mend);
        Write("/bin/swtpm");
        Assert.Equal("a TPM for the guest: /bin/swtpm", Look("tpm").Text);
        Write("/usr/libexec/virtiofsd");
        Assert.Equal(Health.Good, Look("folders").Health);
        Assert.Equal("sudo apt-get install ipxe-qemu", Look("network-boot").Mend);
        Assert.Equal("sudo apt-get install ovmf", Look("uefi").Mend);
    }

    (int Status, string Output, string Errors) Run(params string[] words)
    {
        using StringWriter output = new(), errors = new();
        int status = Doctor.Doctor.Run(words, _host, output, errors, isColored: false);
        return (status, output.ToString(), errors.ToString());
    }

    [Fact]
    public void People_read_lines_and_programs_read_json()
    {
        (int status, string text, _) = Run();
        Assert.Equal(0, status);
        Assert.Contains("good    processor     A CPU, 2 CPUs", text);
        Assert.Contains("missing tap           no /dev/net/tun", text);
        Assert.Contains("\n" + new string(' ', 22) + "sudo modprobe tun\n", text);
        using JsonDocument json = JsonDocument.Parse(Run("--json").Output);
        JsonElement[] checks = [.. json.RootElement.GetProperty("checks").EnumerateArray()];
        Assert.Equal(Doctor.Doctor.Checks.Select(check => check.Name),
            checks.Select(check => check.GetProperty("name").GetString()));
        JsonElement tap = checks.First(check => check.GetProperty("name").GetString() == "tap");
        Assert.Equal(("missing", "sudo modprobe tun"), (tap.GetProperty("health").GetString(),
            tap.GetProperty("mend").GetString()));
    }

    [Fact]
    public void Other_words_are_refused()
    {
        (int status, _, string errors) = Run("now");
        Assert.Equal((1, "qkvm doctor now: expects nothing, or --json\n"), (status, errors));
        Assert.StartsWith("usage: qkvm doctor [--json]", Run("--help").Output);
    }
}
