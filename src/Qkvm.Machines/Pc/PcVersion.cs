using Qkvm.Core.Machine;

namespace Qkvm.Machines.Pc;

/// <summary>A version of the PC: what guests see otherwise than on the newest, as -global would say it.</summary>
/// <param name="Name">"6.2".</param>
/// <param name="Compat">The oldest difference last; what users say is stronger.</param>
/// <param name="PrefersSockets">-smp 4 is four sockets and not four cores.</param>
/// <param name="KeepsHyperTransport">No memory is where AMD's processors have none.</param>
/// <param name="TakesNumaSizes">-numa node,mem= divides the memory.</param>
public sealed record PcVersion(string Name, GlobalConfig[] Compat, bool PrefersSockets,
    bool KeepsHyperTransport = true, bool TakesNumaSizes = false)
{
    const string Family = "*", Sockets = "sockets", NoHole = "no-hypertransport-hole", NumaSizes = "numa-sizes";

    /// <summary>Per line a version and what came with the next one, so that this one and older ones lack it: of what
    /// shows to guests and is built here. Observed on QEMU 7.2 by info qtree and the properties of its CPUs.
    /// A star stands for the -transitional and -non-transitional models, too.</summary>
    const string Table = """
        7.2
        7.1 virtio-rng-pci*.vectors=0
        7.0 no-hypertransport-hole
        6.2
        6.1 sockets
        6.0 ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off qemu64-x86_64-cpu.family=6
            qemu64-x86_64-cpu.model=6 qemu64-x86_64-cpu.stepping=3
        5.2 virtio-net-pci*.vectors=3
        5.1 pvpanic.events=1
        5.0 numa-sizes
        4.2 virtio-blk-pci*.queue-size=128 mch.smbase-smram=off
        4.1
        4.0 VGA.edid=off
        3.1 virtio-blk-pci*.discard=off virtio-blk-pci*.write-zeroes=off
        3.0
        2.12
        2.11
        2.10
        2.9 mch.extended-tseg-mbytes=0
        2.8 ICH9-LPC.x-smi-broadcast=off
        2.7
        2.6 virtio-blk-pci.disable-modern=on virtio-net-pci.disable-modern=on virtio-rng-pci.disable-modern=on
            virtio-balloon-pci.disable-modern=on
        2.5
        2.4 qemu64-x86_64-cpu.popcnt=on qemu64-x86_64-cpu.abm=on qemu64-x86_64-cpu.sse4a=on
            qemu32-x86_64-cpu.popcnt=on
        2.3 qemu64-x86_64-cpu.level=4 kvm64-x86_64-cpu.level=5
        2.2
        2.1
        2.0
        """;

    /// <summary>Up to here disks and CPUs tell the version by its own name, and then for ever "2.5+".</summary>
    const string LastNamed = "2.4";

    // Red Hat's releases and the version that each is nearest to.
    static readonly (string Release, string Version)[] s_redHat =
    [
        ("9.2.0", "7.2"), ("9.0.0", "6.2"), ("8.6.0", "6.2"), ("8.5.0", "6.0"), ("8.4.0", "5.2"), ("8.3.0", "5.1"),
        ("8.2.0", "4.2"), ("8.1.0", "4.1"), ("8.0.0", "3.1"), ("7.6.0", "2.12"), ("7.5.0", "2.10"), ("7.4.0", "2.9"),
        ("7.3.0", "2.6"), ("7.2.0", "2.3"), ("7.1.0", "2.1"), ("7.0.0", "2.0"),
    ];

    /// <summary>Red Hat's names for versions, by which its guests were installed: "rhel8.6.0".</summary>
    public static IEnumerable<(string Name, PcVersion Version)> RedHat(string newest, string oldest)
    {
        Dictionary<string, PcVersion> versions = All().ToDictionary(version => version.Name);
        foreach (var (release, version) in s_redHat.SkipWhile(entry => entry.Release != newest))
        {
            yield return ($"rhel{release}", versions[version]);
            if (release == oldest) yield break;
        }
    }

    /// <summary>All, the newest first.</summary>
    public static IEnumerable<PcVersion> All()
    {
        var compat = new List<GlobalConfig>();
        bool sockets = false, named = false, hole = true, sizes = false;
        foreach (string line in Table.Replace("\n    ", " ", StringComparison.Ordinal).Split('\n'))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            sockets |= words.Contains(Sockets);
            hole &= !words.Contains(NoHole);
            sizes |= words.Contains(NumaSizes);
            compat.AddRange(words.Skip(1).Where(word => word is not (Sockets or NoHole or NumaSizes))
                .SelectMany(Globals));
            named |= words[0] == LastNamed;
            if (named) compat.AddRange(OfName($"{words[0]}.0"));
            yield return new PcVersion(words[0], [.. compat], sockets, hole, sizes);
        }
    }

    /// <summary>With what the version says of the model; users' own options come after it.</summary>
    public CpuConfig Apply(CpuConfig cpu)
    {
        GlobalConfig[] own = [.. Compat.Where(global => global.Driver == $"{cpu.Model}-x86_64-cpu")];
        return cpu with
        {
            Features = [.. own.Where(g => g.Value == "on").Select(g => KeyValuePair.Create(g.Property, true)),
                .. cpu.Features],
            Properties = [.. own.Where(g => g.Value != "on").Select(g => new OptionPair(g.Property, g.Value)),
                .. cpu.Properties],
        };
    }

    /// <summary>Of driver.property=value.</summary>
    static IEnumerable<GlobalConfig> Globals(string text)
    {
        (string target, string value) = Halves(text, '=');
        (string driver, string property) = Halves(target, '.');
        string[] endings = driver.EndsWith(Family, StringComparison.Ordinal)
            ? ["", "-transitional", "-non-transitional"] : [""];
        return endings.Select(ending => new GlobalConfig(driver.TrimEnd('*') + ending, property, value));
    }

    static IEnumerable<GlobalConfig> OfName(string version) =>
    [
        .. new[] { "ide-hd.ver", "ide-cd.ver" }.SelectMany(target => Globals($"{target}={version}")),
        .. new[] { "qemu64", "qemu32", "athlon" }.Select(model =>
            new GlobalConfig($"{model}-x86_64-cpu", "model-id", $"QEMU Virtual CPU version {version}")),
    ];

    static (string, string) Halves(string text, char at) => (text[..text.IndexOf(at)], text[(text.IndexOf(at) + 1)..]);
}
