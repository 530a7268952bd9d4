using System.Text.Json;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>The machine as a tree of objects, with QEMU's paths, types and errors.</summary>
public sealed class QomTests : IDisposable
{
    readonly ControlBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData("/", "type machine objects chardevs")]
    [InlineData("/machine", "type peripheral peripheral-anon unattached")]
    [InlineData("/machine/peripheral", "type port0 disk0 balloon0")]
    [InlineData("/machine/peripheral-anon", "type device[0]")]
    [InlineData("/machine/peripheral/disk0/virtio-backend", "type")]
    [InlineData("/chardevs", "type serial0")]
    public void A_path_shows_what_is_below(string path, string names) => Assert.Equal(names,
        string.Join(' ', List(path).Select(p => p.GetProperty("name").GetString())));

    [Fact]
    public void Devices_are_children_of_their_type() => Assert.Equal("child<virtio-blk-pci>",
        List("/machine/peripheral").Single(p => p.GetProperty("name").GetString() == "disk0").GetProperty("type")
            .GetString());

    [Theory]
    [InlineData("/machine", "type", "\"pc-i440fx-7.2-machine\"")]
    [InlineData("/machine/peripheral/disk0", "drive", "\"disk\"")]
    [InlineData("disk0", "drive", "\"disk\"")]                     // the end of a path is enough
    [InlineData("/machine/peripheral/disk0", "event_idx", "true")]
    [InlineData("/machine/peripheral-anon/device[0]", "vgamem_mb", "16")]
    [InlineData("/machine/peripheral/disk0", "bootindex", "-1")]
    [InlineData("/machine/unattached/cpu[1]", "vendor", "\"FakeFakeFake\"")]
    [InlineData("/machine/unattached/cpu[1]", "unavailable-features", "[]")]
    [InlineData("/machine/peripheral/balloon0", "guest-stats-polling-interval", "0")]
    public void A_property_has_its_value(string path, string property, string value) => Assert.Equal(value,
        _bench.Query("qom-get", $$"""{"path":"{{path}}","property":"{{property}}"}""").GetRawText());

    [Theory]
    [InlineData("qom-list", """{"path":"/machine/nowhere"}""", "Device '/machine/nowhere' not found")]
    [InlineData("qom-get", """{"path":"/machine","property":"sound"}""",
        "Property 'pc-i440fx-7.2-machine.sound' not found")]
    [InlineData("qom-get", """{"path":"virtio-backend","property":"type"}""", "Path 'virtio-backend' is ambiguous")]
    [InlineData("qom-set", """{"path":"disk0","property":"event_idx","value":false}""",
        "Attempt to set property 'event_idx' on device 'disk0' (type 'virtio-blk-pci') after it was realized")]
    [InlineData("qom-set", """{"path":"balloon0","property":"guest-stats-polling-interval","value":-1}""",
        "timer value must be from 0 to 100000 seconds")]
    [InlineData("device-list-properties", """{"typename":"sofa"}""", "Device 'sofa' not found")]
    [InlineData("device-list-properties", """{"typename":"iothread"}""",
        "Parameter 'typename' expects a non-abstract device type")]
    [InlineData("qom-list-properties", """{"typename":"sofa"}""", "Class 'sofa' not found")]
    public void What_is_not_there_or_fixed_is_refused(string command, string arguments, string message) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => _bench.Query(command, arguments)).Message);

    [Fact]
    public void What_can_be_set_reads_back()
    {
        const string property = """ "path":"balloon0","property":"guest-stats-polling-interval" """;
        _bench.Query("qom-set", $$"""{{{property}},"value":5}""");
        Assert.Equal("5", _bench.Query("qom-get", $$"""{{{property}}}""").GetRawText());
    }

    [Fact]
    public void Several_objects_are_asked_at_once()
    {
        JsonElement both = _bench.Query("qom-list-get", """{"paths":["disk0","/machine/unattached/cpu[0]"]}""");
        Assert.Equal(2, both.GetArrayLength());
        Assert.Contains(both[0].GetProperty("properties").EnumerateArray(),
            p => p.GetRawText() == """{"name":"drive","type":"str","value":"disk"}""");
    }

    [Theory]
    [InlineData("e1000", "pci-device")] [InlineData("isa-serial", "isa-device")]
    [InlineData("memory-backend-ram", "memory-backend")] [InlineData("tcg-accel", "accel")]
    [InlineData("chardev-socket", "chardev")] [InlineData("max-x86_64-cpu", "x86_64-cpu")]
    public void Types_are_those_of_the_catalogues(string name, string parent)
    {
        Assert.Contains(_bench.Query("qom-list-types").EnumerateArray(),
            type => type.GetRawText() == $$"""{"name":"{{name}}","parent":"{{parent}}"}""");
        JsonElement ofKind = _bench.Query("qom-list-types", $$"""{"implements":"{{parent}}"}""");
        Assert.Contains(ofKind.EnumerateArray(), type => type.GetProperty("name").GetString() == name);
        Assert.DoesNotContain(ofKind.EnumerateArray(), type => type.GetProperty("name").GetString() == "rng-random");
    }

    [Fact]
    public void A_type_tells_what_it_takes()
    {
        JsonElement[] card = [.. _bench.Query("device-list-properties", """{"typename":"VGA"}""").EnumerateArray()];
        JsonElement memory = card.Single(p => p.GetProperty("name").GetString() == "vgamem_mb");
        Assert.Equal("uint32", memory.GetProperty("type").GetString());
        Assert.Equal(16, memory.GetProperty("default-value").GetInt32());
        Assert.Contains(_bench.Query("qom-list-properties", """{"typename":"max-x86_64-cpu"}""").EnumerateArray(),
            p => p.GetProperty("name").GetString() == "unavailable-features");
    }

    [Fact]
    public void The_human_monitor_shows_the_tree()
    {
        Assert.StartsWith("/machine (pc-i440fx-7.2-machine)\n  /peripheral (container)\n    /balloon0 "
            + "(virtio-balloon-pci)\n      /virtio-backend (virtio-balloon-device)\n", _bench.Human("info qom-tree"));
        Assert.Equal("\"disk\"\n", _bench.Human("qom-get disk0 drive"));
        Assert.Contains("drive (str)\n", _bench.Human("qom-list /machine/peripheral/disk0"));
        Assert.Equal("", _bench.Human("qom-set balloon0 guest-stats-polling-interval 3"));
        Assert.Equal("3\n", _bench.Human("qom-get balloon0 guest-stats-polling-interval"));
    }

    IEnumerable<JsonElement> List(string path) =>
        _bench.Query("qom-list", $$"""{"path":"{{path}}"}""").EnumerateArray();
}
