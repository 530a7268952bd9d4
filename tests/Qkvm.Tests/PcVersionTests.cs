using System.Text;
using Qkvm.Cli;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Hw.Virtio;
using Qkvm.Machines;
using Qkvm.Machines.Pc;
using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>Facts observed on QEMU 7.2.</summary>
public class PcVersionTests
{
    public static TheoryData<string> Names => [.. PcMachine.Versions.Select(model => model.Name)];

    [Fact]
    public void From_2_0_on_all_are_there()
    {
        Assert.Equal(27 + 7, PcMachine.Versions.DistinctBy(model => model.Name).Count());
        Assert.Equal("pc-i440fx-7.2", Catalogue.Machines.Get("pc", "-M pc").Name);
        Assert.Equal("pc-i440fx-2.0", Catalogue.Machines.Get("pc-i440fx-2.0", "-M").Name);
        Assert.Contains("not built", Assert.Throws<ConfigurationException>(() =>
            Catalogue.Machines.Get("pc-i440fx-1.7", "-M")).Message);
    }

    [Theory]
    [InlineData("pc-i440fx-rhel7.6.0", "pc-i440fx-2.12")] [InlineData("pc-q35-rhel7.3.0", "pc-q35-2.6")]
    [InlineData("pc-q35-rhel8.6.0", "pc-q35-6.2")] [InlineData("pc-q35-rhel9.2.0", "pc-q35-7.2")]
    public void Red_Hats_names_are_of_versions(string name, string like)
    {
        MachineModel named = Catalogue.Machines.Get(name, "-M"), plain = Catalogue.Machines.Get(like, "-M");
        Assert.Equal(name, named.Name);
        Assert.Equal(plain.Defaults, named.Defaults);
        Assert.Equal(plain.Description.Replace(" (default)", ""), named.Description);
    }

    /// <summary>Every difference is of a property that there is, and of a value that it takes.</summary>
    [Theory, MemberData(nameof(Names))]
    public void Each_makes_a_machine_that_tells_its_name(string name) => With(name,
        [.. VirtioRng.Models.Where(m => m.Bus == BusKind.Pci).Select((m, i) =>
            new DeviceConfig(m.Name, $"d{i}", [], "-device"))], machine =>
    {
        ReadOnlyMemory<byte> smbios = ((PcBoard)machine.Board).FirmwareConfiguration.Files["etc/smbios/smbios-tables"];
        Assert.Contains($"{name}\0", Encoding.Latin1.GetString(smbios.Span), StringComparison.Ordinal);
    });

    [Theory]
    [InlineData("7.2", "virtio-rng-pci", "vectors", "auto")] [InlineData("7.1", "virtio-rng-pci", "vectors", "0")]
    [InlineData("7.1", "virtio-rng-pci-transitional", "vectors", "0")]
    [InlineData("6.0", "virtio-net-pci", "vectors", "auto")] [InlineData("5.2", "virtio-net-pci", "vectors", "3")]
    [InlineData("5.2", "pvpanic", "events", "3")] [InlineData("5.1", "pvpanic", "events", "1")]
    [InlineData("4.1", "VGA", "edid", "on")] [InlineData("4.0", "VGA", "edid", "off")]
    [InlineData("2.7", "virtio-balloon-pci", "disable-modern", "off")]
    [InlineData("2.0", "virtio-balloon-pci", "disable-modern", "on")]
    public void Devices_are_as_they_were(string version, string device, string property, string value) =>
        With($"pc-i440fx-{version}", [new DeviceConfig(device, "d", [], "-device")], machine =>
            Assert.Equal(value, machine.Tree.FindDevice("d")!.Properties
                .Single(p => p.Name == property).Value));

    [Theory]
    [InlineData("6.1", "qemu64", "")] [InlineData("6.0", "qemu64", "family=6 model=6 stepping=3")]
    [InlineData("2.5", "qemu32", "")] [InlineData("2.3", "kvm64", "level=5")]
    [InlineData("2.2", "athlon", "model-id=QEMU Virtual CPU version 2.2.0")]
    public void CPUs_are_as_they_were_and_users_have_the_last_word(string version, string cpu, string properties)
    {
        CpuConfig own = new(cpu) { Properties = [new OptionPair("vendor", "x")] };
        CpuConfig applied = PcVersion.All().Single(v => v.Name == version).Apply(own);
        string text = string.Join(' ', applied.Properties.SkipLast(1).Select(p => $"{p.Name}={p.Value}"));
        Assert.EndsWith(properties, text, StringComparison.Ordinal);
        Assert.Equal(properties.Length == 0, text.Length == 0);
        Assert.Equal("vendor", applied.Properties[^1].Name);
    }

    [Theory]
    [InlineData("4", "6.2", 1, 4, 1)] [InlineData("4", "6.1", 4, 1, 1)]
    [InlineData("4,threads=2", "6.2", 1, 2, 2)] [InlineData("4,threads=2", "6.1", 2, 1, 2)]
    [InlineData("4,cores=2", "6.1", 2, 2, 1)] [InlineData("8,sockets=2", "6.1", 2, 4, 1)]
    [InlineData("4,maxcpus=8", "6.1", 8, 1, 1)]
    public void Older_ones_have_sockets_where_newer_ones_have_cores(string smp, string version, int sockets, int cores,
        int threads)
    {
        CpuTopology topology = Expander.Expand(CommandLineParser.Parse(["-smp", smp, "-M",
            $"pc-i440fx-{version}"])).Topology;
        Assert.Equal((sockets, cores, threads), (topology.Sockets, topology.Cores, topology.Threads));
    }

    static void With(string machine, DeviceConfig[] devices, Action<Machine> look)
    {
        using var environment = new MachineEnvironment();
        var config = new MachineConfig { Memory = new MemoryConfig(16 << 20), StartPaused = true, Devices = devices };
        using var made = new Machine(environment, config, new FakeAccelerator(), Catalogue.Devices,
            new MachineBackends(), TextWriter.Null, model: Catalogue.Machines.Get(machine, "-M"));
        look(made);
    }
}
