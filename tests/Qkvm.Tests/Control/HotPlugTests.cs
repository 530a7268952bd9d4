using System.Globalization;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>Counts what the process holds: nothing else may run meanwhile.</summary>
[CollectionDefinition(nameof(HotPlugTests), DisableParallelization = true)]
public sealed class HotPlugCollection;

/// <summary>Devices that come and go by device_add and device_del.</summary>
[Collection(nameof(HotPlugTests))]
public sealed class HotPlugTests : IDisposable
{
    readonly ControlBench _bench = new();

    public HotPlugTests()
    {
        var spare = new BlockBackend("spare", _bench.Environment.Loop.Post);
        spare.Insert(new MemoryDisk(1 << 20));
        _bench.Backends.Drives["spare"] = spare;
        _bench.Backends.Chardevs["talk"] = new FakeChar();
        _bench.Backends.Folders["folder"] = new SlowFolder();
    }

    public void Dispose() => _bench.Dispose();

    public static TheoryData<string> Models =>
        [.. Qkvm.Catalogue.Devices.Models
            .Where(m => m is { NotBuilt: null, IsMigratable: true, IsHotPluggable: true,
                Bus.IsHotPluggable: true })
            .Where(m => m.Bus != BusKind.None && m.Bus != BusKind.PciExpress
                && m.Find("memdev") == null)                       // such memory does not go
            .Select(m => m.Name)];

    [Theory, MemberData(nameof(Models))]
    public void A_device_that_came_and_went_a_thousand_times_leaves_nothing(string model)
    {
        // The runtime keeps some things of the first hundreds.
        const int Before = 1000, After = 1000;
        const long RomSize = 64 << 10;
        if (BusOf(model) == BusKind.VirtioSerial)
            Assert.Equal("", _bench.Human("device_add virtio-serial-pci,id=ports"));
        if (BusOf(model) == BusKind.Usb) Assert.Equal("", _bench.Human("device_add qemu-xhci,id=usb"));
        if (BusOf(model) == BusKind.Scsi) Assert.Equal("", _bench.Human("device_add virtio-scsi-pci,id=units"));
        string tree = _bench.Human("info qtree");
        for (int i = 0; i < Before; i++) ComeAndGo(model, i);
        (long bytes, int files, int maps, long mapped) = Held();
        for (int i = 0; i < After; i++) ComeAndGo(model, i);
        (long bytesAfter, int filesAfter, int mapsAfter, long mappedAfter) = Held();
        Assert.InRange(bytesAfter - bytes, long.MinValue, 100 * After);    // the smallest device has some 5,000 bytes
        Assert.InRange(filesAfter - files, -100, 20);
        Assert.InRange(mapsAfter - maps, -1000, After / 10);
        Assert.InRange(mappedAfter - mapped, long.MinValue, RomSize * After / 4);       // half of them had one
        Assert.Equal(tree, _bench.Human("info qtree"));
        Assert.Null(_bench.Backends.OwnerOfDrive("spare"));
    }

    [Fact]
    public void A_device_that_was_refused_leaves_its_drive_free()
    {
        int regions = _bench.Machine.Board.Memory.Root.Children.Count;
        foreach (string fault in new[] { "queue-size=3", "addr=1", "addr=zz", "physical_block_size=100",
            "romfile=/nowhere", "nonsense=1", "disable-modern=on,disable-legacy=on", "bus=pci.7" })
        {
            Assert.NotEqual("", _bench.Human($"device_add virtio-blk-pci,drive=spare,id=new,{fault}"));
            Assert.Null(_bench.Backends.OwnerOfDrive("spare"));
        }
        Assert.Equal(regions, _bench.Machine.Board.Memory.Root.Children.Count);
        Assert.Equal("", _bench.Human("device_add virtio-blk-pci,drive=spare,id=new"));
        Assert.Equal("device_add virtio-blk-pci,id=new", _bench.Backends.OwnerOfDrive("spare"));
    }

    [Theory]
    [InlineData("isa-debugcon,chardev=x", "Bus 'isa.0' does not support hotplugging")]
    [InlineData("VGA", "Device 'VGA' does not support hotplugging")]
    [InlineData("virtio-rng-pci,id=disk0", "Duplicate device ID 'disk0'")]
    [InlineData("virtio-rng-pci,id=0", "identifiers consist of letters")]
    [InlineData("virtio-rng-pci,bus=isa.0", "can't go on bus 'isa.0'")]
    [InlineData("nonsense", "is not a valid device model name")]
    public void What_cannot_come_is_refused(string device, string message) =>
        Assert.Contains(message, _bench.Human($"device_add {device}"));

    /// <summary>What sits behind a bridge goes with it, first.</summary>
    [Fact]
    public void A_bridge_goes_with_all_behind_it()
    {
        string tree = _bench.Human("info qtree");
        var gone = new List<string>();
        _bench.OnLoop(() => _bench.Machine.Events.Raised += happened =>
        {
            if (happened is DeviceDeletedEvent deleted) gone.Add(deleted.Device!);
        });
        Assert.Equal("", _bench.Human("device_add pci-bridge,id=outer,chassis_nr=1"));
        Assert.Equal("", _bench.Human("device_add pci-bridge,id=inner,chassis_nr=2,bus=outer"));
        Assert.Equal("", _bench.Human("device_add virtio-blk-pci,id=disk,drive=spare,bus=inner"));
        Assert.Contains("bus: inner", _bench.Human("info qtree"));
        Assert.Contains("PCI: slot 0 function 0 not available for virtio-rng-pci, in use by virtio-blk-pci,id=disk",
            _bench.Human("device_add virtio-rng-pci,bus=inner,addr=0"));
        Assert.Equal("", _bench.Human("device_del outer"));
        _bench.LetGo();
        Assert.Equal(["disk", "inner", "outer"], gone);
        Assert.Equal(tree, _bench.Human("info qtree"));
        Assert.Null(_bench.Backends.OwnerOfDrive("spare"));
    }

    /// <summary>By QMP and by the human monitor in turn, each second time with a ROM and used by a guest.</summary>
    static BusKind BusOf(string model) => Qkvm.Catalogue.Devices.Models.Single(m => m.Name == model).Bus;

    void ComeAndGo(string model, int turn)
    {
        bool drive = model.Contains("-blk-", StringComparison.Ordinal) || model is "usb-storage" or "nvme"
            || BusOf(model) == BusKind.Scsi;
        bool bridge = model.EndsWith("-bridge", StringComparison.Ordinal), talks = model == "usb-serial",
            shares = model.Contains("-9p-", StringComparison.Ordinal);
        string more = model == "nvme" ? ",drive=spare,serial=1"
            : drive ? ",drive=spare" : bridge ? ",chassis_nr=1" : talks ? ",chardev=talk"
            : shares ? ",fsdev=folder,mount_tag=t" : "";
        if (turn % 2 == 0)
        {
            string rest = model == "nvme" ? ",\"drive\":\"spare\",\"serial\":\"1\""
                : drive ? ",\"drive\":\"spare\"" : bridge ? ",\"chassis_nr\":1"
                : talks ? ",\"chardev\":\"talk\"" : shares ? ",\"fsdev\":\"folder\",\"mount_tag\":\"t\"" : "";
            _bench.Query("device_add", $"{{\"driver\":\"{model}\",\"id\":\"new\"{rest}}}");
            _bench.Query("device_del", """{"id":"new"}""");
            _bench.LetGo();
            return;
        }
        if (BusOf(model) == BusKind.VirtioSerial || BusOf(model) == BusKind.Usb || BusOf(model) == BusKind.Scsi)
        {
            string place = BusOf(model) == BusKind.Usb ? "port=2" : BusOf(model) == BusKind.Scsi ? "lun=3"
                : "nr=7,name=a";
            Assert.Equal("", _bench.Human($"device_add {model},id=new,{place}{more}"));
            Assert.Equal("", _bench.Human("device_del new"));
            return;
        }
        Assert.Equal("", _bench.Human($"device_add {model},id=new,bootindex=1,romfile=vgabios-stdvga.bin{more}"));
        _bench.OnLoop(() =>
        {
            PciBus bus = _bench.Machine.Board.Pci!;
            int function = bus.Devices.Last().DevFn;
            bus.WriteConfig(function, PciConfig.RomAddress, 4, 0xE0000001);
            bus.WriteConfig(function, PciConfig.Command, 2, 7);
        });
        Assert.Equal("", _bench.Human("device_del new"));
        _bench.LetGo();
    }

    [Fact]
    public void A_device_goes_when_the_guest_lets_go_of_it_or_with_a_reset()
    {
        Assert.Equal("", _bench.Human("device_add virtio-rng-pci,id=first"));
        Assert.Equal("", _bench.Human("device_add virtio-rng-pci,id=second"));
        Assert.Equal("", _bench.Human("device_del first"));
        Assert.Contains("Device first is already in the process of unplug", _bench.Human("device_del first"));
        Assert.Contains("\"first\"", _bench.Human("info qtree"));
        _bench.LetGo();
        Assert.DoesNotContain("\"first\"", _bench.Human("info qtree"));
        Assert.Contains("Device 'first' not found", _bench.Human("device_del first"));
        Assert.Equal("", _bench.Human("device_del second"));
        Assert.Contains("\"second\"", _bench.Human("info qtree"));
        Assert.Equal("", _bench.Human("system_reset"));
        Assert.DoesNotContain("\"second\"", _bench.Human("info qtree"));
    }

    [Fact]
    public void An_index_is_one_device_s_own()
    {
        Assert.Contains("acpi-index should be less or equal to 16383",
            _bench.Human("device_add virtio-rng-pci,acpi-index=16384"));
        Assert.Equal("", _bench.Human("device_add virtio-rng-pci,acpi-index=3"));
        Assert.Contains("a PCI device with acpi-index = 3 already exist",
            _bench.Human("device_add virtio-rng-pci,acpi-index=3"));
    }

    /// <summary>Neighbouring mappings of the same kind become one, so that their number alone does not tell of memory
    /// that stays. What cannot be written is left out: the C library reserves much of that for each new
    /// thread.</summary>
    static (long Bytes, int Files, int Maps, long Mapped) Held()
    {
        long bytes = GC.GetTotalMemory(forceFullCollection: true), mapped = 0;
        string[] maps = File.ReadAllLines("/proc/self/maps");
        foreach (string[] range in maps.Where(map => map.Contains(" rw")).Select(map => map.Split('-', ' ')))
            mapped += long.Parse(range[1], NumberStyles.HexNumber) - long.Parse(range[0], NumberStyles.HexNumber);
        return (bytes, Directory.GetFiles("/proc/self/fd").Length, maps.Length, mapped);
    }
}
