using System.Text.Json;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Tests.Control;

/// <summary>What goes in and out of a CD drive, step by step as libvirt does it and at once as people do.</summary>
public sealed class MediaTests : IDisposable
{
    readonly string _folder = Directory.CreateTempSubdirectory("qkvm-media-").FullName;
    readonly ControlBench _bench;
    readonly List<string> _moves = [];

    public MediaTests()
    {
        _bench = new ControlBench(c => c with
        {
            Devices = [.. c.Devices, new DeviceConfig("ide-cd", "cd0", [], "-device ide-cd")],
        });
        foreach (string name in (string[])["a.iso", "b.iso"]) File.WriteAllBytes(PathOf(name), new byte[64 << 10]);
        _bench.Machine.Events.Raised += happened =>
        {
            if (happened is DeviceTrayMovedEvent moved) _moves.Add(moved.TrayOpen ? "open" : "closed");
        };
    }

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void The_steps_of_a_change_are_libvirts()
    {
        AddNode("one", "a.iso");
        Query("blockdev-open-tray", """{"id":"cd0","force":false}""");
        Query("blockdev-remove-medium", """{"id":"cd0"}""");
        Query("blockdev-insert-medium", """{"id":"cd0","node-name":"one"}""");
        Assert.True(Drive.GetProperty("tray_open").GetBoolean());
        Query("blockdev-close-tray", """{"id":"cd0"}""");
        Assert.Equal("one", Drive.GetProperty("inserted").GetProperty("node-name").GetString());
        Assert.Equal(["open", "closed"], _moves);

        Query("blockdev-open-tray", """{"id":"cd0"}""");
        Query("blockdev-remove-medium", """{"id":"cd0"}""");
        Query("blockdev-del", """{"node-name":"one"}""");          // the drive has let go of it
        Query("blockdev-close-tray", """{"id":"cd0"}""");
        Assert.False(Drive.TryGetProperty("inserted", out _));
    }

    [Fact]
    public void What_cannot_be_is_told_as_QEMU_tells_it()
    {
        AddNode("one", "a.iso");
        Fails("Tray of the device is not open", "blockdev-insert-medium", """{"id":"cd0","node-name":"one"}""");
        Query("blockdev-open-tray", """{"id":"cd0"}""");
        Fails("Node 'two' not found", "blockdev-insert-medium", """{"id":"cd0","node-name":"two"}""");
        Query("blockdev-insert-medium", """{"id":"cd0","node-name":"one"}""");
        Fails("Node 'one' is already in use", "blockdev-insert-medium", """{"id":"cd0","node-name":"one"}""");
        AddNode("two", "b.iso");
        Fails("There already is a medium in device 'cd0'", "blockdev-insert-medium",
            """{"id":"cd0","node-name":"two"}""");
        Query("blockdev-close-tray", """{"id":"cd0"}""");
        Fails("Tray of device 'cd0' is not open", "blockdev-remove-medium", """{"id":"cd0"}""");
        Fails("Need exactly one of 'device' and 'id'", "blockdev-open-tray", "{}");
        Fails("Device 'disk' is not removable", "blockdev-open-tray", """{"device":"disk"}""");
        Fails("Device 'nope' not found", "blockdev-close-tray", """{"id":"nope"}""");
    }

    [Fact]
    public void A_change_opens_the_new_image_before_it_lets_go_of_the_old()
    {
        Query("blockdev-change-medium", $$"""{"id":"cd0","filename":"{{PathOf("a.iso")}}"}""");
        Fails("Could not open '/nowhere/x': No such file or directory", "blockdev-change-medium",
            """{"id":"cd0","filename":"/nowhere/x"}""");
        Assert.Equal(PathOf("a.iso"), Inserted);
        Query("blockdev-change-medium", $$"""{"id":"cd0","filename":"{{PathOf("b.iso")}}","format":"raw"}""");
        Assert.Equal(PathOf("b.iso"), Inserted);
        Assert.Equal(["open", "closed", "open", "closed"], _moves);
    }

    [Fact]
    public void A_guest_that_has_locked_the_tray_is_asked()
    {
        Query("blockdev-change-medium", $$"""{"id":"cd0","filename":"{{PathOf("a.iso")}}"}""");
        _bench.OnLoop(LockTray);                                   // is told that the medium has changed
        _bench.OnLoop(LockTray);
        Fails("Device 'cd0' is locked and force was not specified, wait for tray to open and try again", "eject",
            """{"id":"cd0"}""");
        Assert.True(Drive.GetProperty("locked").GetBoolean());
        Query("eject", """{"id":"cd0","force":true}""");
        Assert.True(Drive.GetProperty("tray_open").GetBoolean());
        Assert.False(Drive.TryGetProperty("inserted", out _));
    }

    [Fact]
    public void The_human_monitor_changes_and_ejects()
    {
        Assert.Equal("OK\n", _bench.Human($"drive_add 0 if=none,id=other,format=raw,file={PathOf("a.iso")}"));
        Assert.Equal("Duplicate ID 'other' for drive\n",
            _bench.Human($"drive_add 0 if=none,id=other,format=raw,file={PathOf("b.iso")}"));
        Assert.Equal("Can't hot-add drive to type 1\n", _bench.Human($"drive_add 0 file={PathOf("b.iso")}"));
        Assert.Equal("", _bench.Human($"change other {PathOf("b.iso")} raw read-only"));
        Assert.Contains($"{PathOf("b.iso")} (raw, read-only)\n", _bench.Human("info block other"));
        Assert.Equal("", _bench.Human("eject other"));
        Assert.Equal("other: [not inserted]\n    Removable device: not locked, tray closed\n",
            _bench.Human("info block other"));
        Assert.Equal("", _bench.Human("drive_del other"));
        Assert.Equal("Device 'other' not found\n", _bench.Human("drive_del other"));
        Assert.Equal("Error: invalid parameter value: foo\n", _bench.Human("change disk /x raw foo"));
        Assert.Equal("Error: Could not set password; only a server of -vnc …,password=on asks for one\n",
            _bench.Human("change vnc password x"));
    }

    JsonElement Drive => Assert.Single(Query("query-block").EnumerateArray(),
        d => d.TryGetProperty("qdev", out JsonElement user) && user.GetString() == "cd0");

    string? Inserted => Drive.GetProperty("inserted").GetProperty("file").GetString();

    /// <summary>PREVENT ALLOW MEDIUM REMOVAL, as a packet to the drive on the first channel.</summary>
    void LockTray()
    {
        const ulong Data = 0x1F0, DriveHead = 0x1F6, Command = 0x1F7;
        AddressSpace ports = _bench.Machine.Board.Ports;
        ports.Write(DriveHead, 1, 0xA0);
        ports.Write(Command, 1, 0xA0);
        foreach (ushort word in (ushort[])[0x1E, 0, 1, 0, 0, 0]) ports.Write(Data, 2, word);
    }

    string PathOf(string name) => Path.Combine(_folder, name);

    void AddNode(string node, string file) => Query("blockdev-add",
        $$"""{"driver":"file","filename":"{{PathOf(file)}}","node-name":"{{node}}","read-only":true}""");

    JsonElement Query(string name, string? arguments = null) => _bench.Query(name, arguments);

    void Fails(string message, string name, string arguments) =>
        Assert.Equal(message, Assert.Throws<CommandException>(() => Query(name, arguments)).Message);
}
