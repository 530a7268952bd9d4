using System.Diagnostics;
using System.Text.Json;
using Qkvm.Control;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>Commands by both their names: QMP's records and what the human monitor prints of them.</summary>
public sealed class CommandTests : IDisposable
{
    readonly ControlBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData("query-status", """{"status":"prelaunch","singlestep":false,"running":false}""")]
    [InlineData("query-name", """{"name":"bench"}""")]
    [InlineData("query-uuid", """{"UUID":"00000000-0000-0000-0000-000000000000"}""")]
    [InlineData("query-kvm", """{"enabled":false,"present":true}""")]
    [InlineData("query-balloon", """{"actual":16777216}""")]
    [InlineData("query-memory-size-summary", """{"base-memory":16777216,"plugged-memory":0}""")]
    [InlineData("query-vnc", """{"enabled":false}""")]
    [InlineData("query-vnc-servers", "[]")]
    [InlineData("query-chardev", """[{"label":"serial0","filename":"fake","frontend-open":true}]""")]
    [InlineData("query-block", """
        [{"device":"disk","qdev":"/machine/peripheral/disk0/virtio-backend",
        "type":"unknown","removable":false,"locked":false,"io-status":"ok",
        "inserted":{"file":"disk.img","ro":false,"drv":"memory","encrypted":false,
        "cache":{"writeback":true,"direct":false,"no-flush":false},
        "image":{"filename":"disk.img","format":"memory","virtual-size":1048576,"dirty-flag":false},"children":[],
        "backing_file_depth":0,"detect_zeroes":"off","write_threshold":0,"bps":0,"bps_rd":0,"bps_wr":0,"iops":0,
        "iops_rd":0,"iops_wr":0,"active":true}}]
        """)]
    [InlineData("stop", "{}")] [InlineData("cont", "{}")] [InlineData("system_powerdown", "{}")]
    public void A_command_answers_with_its_record(string name, string json) =>
        Assert.Equal(json.ReplaceLineEndings(""), _bench.Query(name).GetRawText());

    [Fact]
    public void Each_vCPU_has_a_thread_of_the_host_and_a_place()
    {
        JsonElement cpus = _bench.Query("query-cpus-fast");
        Assert.Equal(2, cpus.GetArrayLength());
        foreach (JsonElement cpu in cpus.EnumerateArray())
            Assert.True(Directory.Exists($"/proc/self/task/{cpu.GetProperty("thread-id").GetInt32()}"),
                cpu.GetRawText());
        Assert.Equal("""{"socket-id":0,"core-id":1,"thread-id":0}""", cpus[1].GetProperty("props").GetRawText());
    }

    /// <summary>The shape is QEMU 7.2's.</summary>
    [Fact]
    public void Machines_are_those_of_the_catalogue()
    {
        var context = new CommandContext(_bench.Machine, _bench.Host, CommandCatalogue.Standard)
            { MachineTypes = new(static () => [.. Qkvm.Catalogue.Machines.Models.Select(model => model.Info)]) };
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json))
            _bench.OnLoop(() => CommandCatalogue.Standard.Find("query-machines")!
                .RunAsync(context, default, writer).AsTask().Wait());
        JsonElement[] machines = [.. JsonDocument.Parse(json.ToArray()).RootElement.EnumerateArray()];
        Assert.Equal("""
            {"hotpluggable-cpus":true,"name":"pc-i440fx-7.2","numa-mem-supported":false,
            "default-cpu-type":"qemu64-x86_64-cpu","is-default":true,"cpu-max":255,"deprecated":false,
            "default-ram-id":"pc.ram","alias":"pc","acpi":true}
            """.ReplaceLineEndings(""),
            Assert.Single(machines, m => m.TryGetProperty("is-default", out _)).GetRawText());
        Assert.Contains(machines, m => m.GetProperty("name").GetString() == "pc-i440fx-2.0");
        Assert.All(machines, m => Assert.Null(
            Qkvm.Catalogue.Machines.Get(m.GetProperty("name").GetString()!, "-M").NotBuilt));
    }

    [Fact]
    public void Possible_vCPUs_come_with_the_highest_first()
    {
        using var bench = new ControlBench(c => c with { Topology = c.Topology with { MaxCpus = 3, Cores = 3 } });
        JsonElement[] cpus = [.. bench.Query("query-hotpluggable-cpus").EnumerateArray()];
        Assert.Equal([2, 1, 0], cpus.Select(c => c.GetProperty("props").GetProperty("core-id").GetInt32()));
        Assert.Equal([false, true, true], cpus.Select(c => c.TryGetProperty("qom-path", out _)));
        Assert.Equal("qemu64-x86_64-cpu", cpus[0].GetProperty("type").GetString());
    }

    [Fact]
    public void The_end_of_a_machine_gives_back_what_its_devices_took()
    {
        var bench = new ControlBench();
        Assert.NotNull(bench.Backends.OwnerOfDrive("disk"));
        bench.Dispose();
        Assert.Null(bench.Backends.OwnerOfDrive("disk"));
        Assert.Null(bench.Backends.OwnerOfChardev("serial0"));
        Assert.Null(((FakeChar)bench.Backends.Chardevs["serial0"]).Frontend);
    }

    [Fact]
    public void The_PCI_devices_are_those_of_the_bus()
    {
        JsonElement devices = _bench.Query("query-pci")[0].GetProperty("devices");
        JsonElement disk =
            Assert.Single(devices.EnumerateArray(), d => d.GetProperty("qdev_id").GetString() == "disk0");
        Assert.Equal("""{"class":256,"desc":"SCSI controller"}""", disk.GetProperty("class_info").GetRawText());
        Assert.Equal(0x1AF4, disk.GetProperty("id").GetProperty("vendor").GetInt32());
        Assert.Contains(disk.GetProperty("regions").EnumerateArray(), r => r.GetProperty("bar").GetInt32() == 4
            && r.GetProperty("mem_type_64").GetBoolean());
    }

    [Theory]
    [InlineData("balloon", null, "Parameter 'value' is missing")]
    [InlineData("balloon", "{}", "Parameter 'value' is missing")]
    [InlineData("balloon", """{"value":"x"}""", "Invalid parameter type for 'value', expected: integer")]
    [InlineData("balloon", """{"value":1.5}""", "Invalid parameter type for 'value', expected: integer")]
    [InlineData("balloon", """{"value":1,"foo":2}""", "Parameter 'foo' is unexpected")]
    [InlineData("stop", """{"foo":1}""", "Parameter 'foo' is unexpected")]
    [InlineData("eject", """{"device":"disk","force":1}""", "Invalid parameter type for 'force', expected: boolean")]
    [InlineData("screendump", """{"filename":"/nowhere/x","format":"tiff"}""",
        "Parameter 'format' does not accept value 'tiff'")]
    [InlineData("device_del", """{"id":"port0"}""", "Bus 'isa.0' does not support hotplugging")]
    public void What_does_not_fit_is_a_generic_error(string name, string? arguments, string message)
    {
        var error = Assert.Throws<CommandException>(() => _bench.Query(name, arguments));
        Assert.Equal((ErrorClass.GenericError, message), (error.Class, error.Message));
    }

    [Theory]
    [InlineData("device_del", """{"id":"nope"}""", ErrorClass.DeviceNotFound, "Device 'nope' not found")]
    [InlineData("eject", """{"device":"nope"}""", ErrorClass.DeviceNotFound, "Device 'nope' not found")]
    public void Errors_have_a_class(string name, string arguments, ErrorClass expected, string message)
    {
        var error = Assert.Throws<CommandException>(() => _bench.Query(name, arguments));
        Assert.Equal((expected, message), (error.Class, error.Message));
    }

    [Fact]
    public void Without_a_balloon_it_is_not_active()
    {
        _bench.Query("device_del", """{"id":"balloon0"}""");
        _bench.LetGo();
        Assert.Equal(ErrorClass.DeviceNotActive,
            Assert.Throws<CommandException>(() => _bench.Query("query-balloon")).Class);
        Assert.Equal("Error: No balloon device has been activated\n", _bench.Human("info balloon"));
    }

    [Fact]
    public void Events_carry_their_data()
    {
        var events = new List<MachineEvent>();
        _bench.Machine.Events.Raised += events.Add;
        _bench.Query("cont");
        _bench.Human("info registers");                            // a look is no stop
        _bench.Query("stop");
        _bench.Query("system_reset");
        _bench.Query("device_del", """{"id":"disk0"}""");
        _bench.LetGo();
        Assert.Equal([new ResumeEvent(), new StopEvent(), new ResetEvent(false, ShutdownCause.HostReset),
            new DeviceDeletedEvent("disk0", "/machine/peripheral/disk0")], events);
    }

    [Theory]
    [InlineData("info status", "VM status: paused (prelaunch)\n")]
    [InlineData("info name", "bench\n")]
    [InlineData("info kvm", "kvm support: disabled\n")]
    [InlineData("info vnc", "None\n")]
    [InlineData("info balloon", "balloon: actual=16\n")]
    [InlineData("info block", "disk: disk.img (memory)\n    Attached to:      "
        + "/machine/peripheral/disk0/virtio-backend\n    Cache mode:       writeback\n")]
    [InlineData("info chardev", "serial0: filename=fake\n")]
    [InlineData("info history", "0: 'stop'\n")]
    [InlineData("p 16+0x10", "32\n")]
    [InlineData("p/x 255", "0x00000000000000ff\n")]
    [InlineData("xp/2xw 0", "0000000000000000: 0x00000000 0x00000000\n")]
    [InlineData("sum 0 4096", "00000\n")]
    [InlineData("system_wakeup", "Error: Unable to wake up: guest is not in suspended state\n")]
    [InlineData("boot_set cc", "Boot device 'c' was given twice\n")]
    [InlineData("boot_set xyz", "Invalid boot device 'x'\n")]
    [InlineData("boot_set dc", "boot device list now set to dc\n")]
    [InlineData("info spice", "Server: disabled\n")]
    [InlineData("info sev", "SEV is not enabled\n")]
    [InlineData("info sgx", "No EPC regions defined, SGX not available\n")]
    [InlineData("info capture", "")]
    [InlineData("dumpdtb /nowhere/x", "Error: This machine doesn't have a FDT\n")]
    [InlineData("info mice", "* Mouse #2: QEMU PS/2 Mouse\n")]
    [InlineData("mouse_set 77", "Mouse at index '77' not found\n")]
    [InlineData("info mem", "PG disabled\n")]
    [InlineData("info usb", "Error: USB support not enabled\n")]
    [InlineData("info numa", "0 nodes\n")]
    [InlineData("gpa2hva 0xb0000000", "No memory is mapped at address 0xb0000000\n")]
    [InlineData("watchdog_action foo", "Error: invalid parameter value: foo\n")]
    [InlineData("singlestep foo", "unexpected option foo\n")]
    [InlineData("info virtio", "/machine/peripheral/balloon0/virtio-backend [virtio-balloon]\n"
        + "/machine/peripheral/disk0/virtio-backend [virtio-blk]\n")]
    [InlineData("set_password vnc x",
        "Error: Could not set password; only a server of -vnc …,password=on asks for one\n")]
    [InlineData("p (1+2)*3 % 4", "1\n")]
    [InlineData("p 1/0", "division by zero\nTry \"help p\" for more information\n")]
    [InlineData("p $foo", "unknown register\nTry \"help p\" for more information\n")]
    [InlineData("p 'a' | 2", "99\n")]
    [InlineData("p", "unexpected end of expression\nTry \"help p\" for more information\n")]
    [InlineData("xp/2i 0", "0x00000000:  00 00                    add %al,(%bx,%si)\n"
        + "0x00000002:  00 00                    add %al,(%bx,%si)\n")]
    [InlineData("x /4294967297x 0", "a dump of 4294967297 items is too large\nTry \"help x\" for more " +
        "information\n")]
    [InlineData("foo", "unknown command: 'foo'\n")]
    [InlineData("info foo", "unknown command: 'info foo'\n")]
    [InlineData("cont now", "cont|c: extraneous characters at the end of line\nTry \"help cont\" for more " +
        "information\n")]
    [InlineData("eject", "eject: block device name expected\nTry \"help eject\" for more information\n")]
    [InlineData("eject -f disk", "Error: Device 'disk' is not removable\n")]
    [InlineData("eject nope", "Error: Device 'nope' not found\n")]
    [InlineData("info jit", "Error: JIT information is only available with accel=tcg\n")]
    public void The_human_monitor_prints(string line, string printed) => Assert.Equal(printed, _bench.Human(line));

    [Fact]
    public void Each_command_of_the_human_monitor_without_arguments_answers()
    {
        foreach (Command command in CommandCatalogue.Standard.Info.Concat(CommandCatalogue.Standard.Human))
        {
            HumanForm form = command.Form!;
            if (form.Arguments.Length > 0 && !form.IsInfo || form.Names.Contains("quit")) continue;
            string printed = _bench.Human(form.IsInfo ? $"info {form.Names[0]}" : form.Names[0]);
            Assert.DoesNotContain("unknown command", printed);
        }
    }

    /// <summary>Up to 16 MiB of RAM and what lies behind; the file's holes read as zeros.</summary>
    [Fact]
    public void Memory_is_saved_as_far_as_there_is_any()
    {
        string path = Path.GetTempFileName();
        try
        {
            _bench.OnLoop(() => _bench.Machine.Board.Memory.Write(0x1234, 4, 0x11223344));
            Assert.Equal("", _bench.Human($"pmemsave 0x1000 0x2345 {path}"));
            byte[] saved = File.ReadAllBytes(path);
            Assert.Equal(0x2345, saved.Length);
            Assert.Equal(0x11223344u, BitConverter.ToUInt32(saved, 0x234));
            foreach (string size in new[] { "0x7fffffffffffffff", "0xffffffffffffffff", "0x100000000000" })
            {
                Assert.StartsWith($"Error: Invalid size {Convert.ToUInt64(size, 16)}, expected: at most ",
                    _bench.Human($"pmemsave 0x1000 {size} {path}"));
                Assert.StartsWith("Error: Invalid ", _bench.Human($"memsave 0x1000 {size} {path}"));
            }
            Assert.Equal(0x2345, new FileInfo(path).Length);
        }
        finally { File.Delete(path); }
    }

    [Fact]
    public void A_command_waits_for_no_reader_of_its_file()
    {
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        using (Process made = Process.Start("mkfifo", path)) made.WaitForExit();
        try
        {
            Assert.Equal($"Error: Could not open '{path}': No such device or address\n",
                _bench.Human($"pmemsave 0 4096 {path}"));
            Assert.StartsWith("Error: Could not write '/dev/full': ", _bench.Human("pmemsave 0 4096 /dev/full"));
        }
        finally { File.Delete(path); }
    }

    /// <summary>They end the machine, write files or listen, whatever they are given.</summary>
    static readonly string[] s_leaveTraces = ["quit", "memsave", "pmemsave", "screendump", "gdbserver", "logfile"];

    public static TheoryData<string> Garbage => ["", "x", "-z", "\"", "0x", "\\ % $ ( [", "1 2 3 4 5 6 7 8 9",
        new string('9', 40), "/zz 0", "a=b,,c=", "é\u0001"];

    [Theory]
    [MemberData(nameof(Garbage))]
    public void Whatever_follows_a_command_it_answers_and_the_machine_goes_on(string words)
    {
        foreach (Command command in CommandCatalogue.Standard.Info.Concat(CommandCatalogue.Standard.Human))
        {
            HumanForm form = command.Form!;
            if (s_leaveTraces.Contains(form.Names[0])) continue;
            string name = $"{(form.IsInfo ? "info " : "")}{form.Names[^1]}";
            Assert.DoesNotContain($"unknown command: '{name}'", _bench.Human($"{name} {words}"));
            Assert.Equal($"{form.HelpLine}\n", _bench.Human($"help {name}"));
        }
        Assert.StartsWith("VM status: ", _bench.Human("info status"));
    }

    [Theory]
    [InlineData("info statu", "status")]
    [InlineData("help info statu", "status")]
    [InlineData("help system_p", "system_powerdown")]
    [InlineData("device_del dis", "disk0")]
    [InlineData("eject di", "disk")]
    [InlineData("change disk -f /usr/bi", "/usr/bin/")]
    [InlineData("change disk /x ra", "raw")]
    [InlineData("set_link x o", "off on")]
    [InlineData("chardev-remove s", "serial0")]
    [InlineData("qom-list /machine/peripheral/di", "/machine/peripheral/disk0")]
    [InlineData("sendkey ctrl-alt-delet", "ctrl-alt-delete")]
    [InlineData("nonsense ", "")]
    public void A_word_is_completed(string head, string words) =>
        Assert.Equal(words, string.Join(' ', _bench.OnLoop(() => CommandLine.Complete(_bench.Context, head))));

    [Fact]
    public void Every_command_is_described_and_listed_once()
    {
        CommandCatalogue catalogue = CommandCatalogue.Standard;
        string[] names =
            [.. _bench.Query("query-commands").EnumerateArray().Select(c => c.GetProperty("name").GetString()!)];
        Assert.Equal(names.Distinct(), names);
        Assert.True(names.Length > 15, $"{names.Length} commands");
        foreach (Command command in catalogue.Commands.Where(c => c.Name != null))
        {
            Assert.NotNull(catalogue.Json.GetTypeInfo(command.Arguments!));
            Assert.NotNull(catalogue.Json.GetTypeInfo(command.Result!));
        }
        string[] human = [.. catalogue.Human.SelectMany(c => c.Form!.Names)];
        Assert.Equal(human.Distinct(), human);
    }
}
