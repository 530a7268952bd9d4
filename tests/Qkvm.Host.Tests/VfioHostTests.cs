namespace Qkvm.Host.Tests;

/// <summary>What stands in the way of giving a PCI function away, by a sysfs that is made up.</summary>
public sealed class VfioHostTests : IDisposable
{
    const string Name = "0000:03:00.0", Group = "7";

    readonly string _root = Directory.CreateTempSubdirectory("vfio").FullName;
    readonly VfioHost _host;

    public VfioHostTests() => _host = new VfioHost(Folder("sys"), Folder("dev"));

    public void Dispose() => Directory.Delete(_root, recursive: true);

    string Folder(string path) => Directory.CreateDirectory(Path.Combine(_root, path)).FullName;

    static void Link(string path, string target) => File.CreateSymbolicLink(path, target);

    /// <summary>A function as the kernel shows it: its folder is on its bus, and the bus has a link there.</summary>
    string Function(string name, string? driver, string? group = Group, string bus = "pci")
    {
        string folder = Folder($"sys/devices/pci0000:00/{name}");
        Folder("sys/bus/pci/devices");
        Link(Path.Combine(_root, "sys/bus/pci/devices", name), folder);
        Link(Path.Combine(folder, "subsystem"), $"../../../bus/{bus}");
        if (driver != null) Link(Path.Combine(folder, "driver"), $"../../../bus/pci/drivers/{driver}");
        if (group == null) return folder;
        string all = Folder($"sys/kernel/iommu_groups/{group}");
        Link(Path.Combine(folder, "iommu_group"), all);
        Link(Path.Combine(Folder($"sys/kernel/iommu_groups/{group}/devices"), name), folder);
        return folder;
    }

    void Node(string name) => File.WriteAllText(Path.Combine(Folder("dev/vfio"), name), "");

    string Obstacle(string address = Name) => _host.Obstacle(_host.Find(address)!) ?? "";

    [Theory]
    [InlineData("03:00.0", Name)] [InlineData("0:03:00.0", Name)] [InlineData("0000:0A:1f.7", "0000:0a:1f.7")]
    [InlineData("zzz", null)] [InlineData("03:00", null)] [InlineData("03:20.0", null)] [InlineData("03:00.8", null)]
    [InlineData("", null)] [InlineData("../../03:00.0", null)] [InlineData("10000:03:00.0", null)]
    public void An_address_names_a_function(string address, string? name) =>
        Assert.Equal(name, _host.Find(address) is { } found ? Path.GetFileName(found) : null);

    [Fact]
    public void A_function_that_is_not_there() => Assert.EndsWith(
        $"/sys/bus/pci/devices/{Name}: no such host device; lspci -D lists those there are", Obstacle());

    [Fact]
    public void A_host_without_an_IOMMU()
    {
        Function(Name, "e1000e", group: null);
        Assert.Equal($"vfio {Name}: no iommu_group found: this host has no IOMMU, or does not use it: switch it on in "
            + "the firmware, boot with intel_iommu=on or amd_iommu=on, then bind it: driverctl set-override "
            + $"{Name} vfio-pci", Obstacle());
    }

    [Fact]
    public void A_function_behind_no_IOMMU()
    {
        Function(Name, "e1000e", group: null);
        Folder("sys/class/iommu/dmar0");
        Assert.Contains("no iommu_group found: it is behind none of the host's IOMMUs", Obstacle());
    }

    [Theory]
    [InlineData("e1000e", "the host's driver e1000e has it; bind it: driverctl set-override 0000:03:00.0 vfio-pci")]
    [InlineData(null, "no driver of the host has it; bind it: driverctl set-override 0000:03:00.0 vfio-pci")]
    public void A_function_that_another_driver_has(string? driver, string says)
    {
        Function(Name, driver);
        Assert.Equal($"vfio {Name}: {says}", Obstacle());
    }

    [Fact]
    public void Another_function_of_its_group_that_the_host_uses()
    {
        Function(Name, "vfio-pci");
        Function("0000:02:00.0", "pcieport");
        Function("0000:03:00.1", "snd_hda_intel");
        Assert.Equal($"vfio {Name}: group {Group} is not viable: the host's driver snd_hda_intel has "
            + "0000:03:00.1, which can reach the same memory; bind that, too: driverctl set-override 0000:03:00.1 "
            + "vfio-pci", Obstacle());
    }

    [Fact]
    public void What_is_no_PCI_function()
    {
        string folder = Function("virtio1", null, bus: "virtio");
        Assert.Equal("vfio virtio1: it is on the host's bus virtio; give a PCI function", _host.Obstacle(folder));
    }

    [Theory]
    [InlineData("", "/dev/vfio/vfio': No such file or directory; run modprobe vfio-pci")]
    [InlineData("vfio", "/dev/vfio/7': No such file or directory; run modprobe vfio-pci, and bind it: driverctl "
        + "set-override 0000:03:00.0 vfio-pci")]
    public void Nodes_that_are_not_there(string node, string says)
    {
        Function(Name, "vfio-pci");
        if (node != "") Node(node);
        Assert.EndsWith(says, Obstacle());
    }

    /// <summary>A folder in the node's place is refused to root, too.</summary>
    [Fact]
    public void A_group_that_cannot_be_opened()
    {
        Function(Name, "vfio-pci");
        Node("vfio");
        Folder($"dev/vfio/{Group}");
        Assert.Contains($"cannot open '{_root}/dev/vfio/{Group}': Is a directory", Obstacle());
    }

    [Fact]
    public void Nothing_stands_in_the_way_of_a_function_that_is_bound()
    {
        string folder = Function(Name, "vfio-pci");
        Function("0000:02:00.0", "pcieport");
        Node("vfio");
        Node(Group);
        Assert.Equal("", Obstacle());
        Assert.Equal("", Obstacle("03:00.0"));
        Assert.Null(_host.Obstacle(folder));
    }
}
