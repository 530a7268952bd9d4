using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Hw.Virtio;

namespace Qkvm.Tests.Control;

/// <summary>log, logfile and trace events: the answers are QEMU 7.2's.</summary>
public sealed class LogTests : IDisposable
{
    readonly ControlBench _bench = new();
    readonly string _scratch = Directory.CreateTempSubdirectory("qkvm-log-").FullName;

    public void Dispose()
    {
        _bench.Dispose();
        Directory.Delete(_scratch, recursive: true);
    }

    [Theory]
    [InlineData("log", "log: string expected\nTry \"help log\" for more information\n")]
    [InlineData("logfile", "logfile: filename expected\nTry \"help logfile\" for more information\n")]
    [InlineData("help logfile", "logfile filename -- output logs to 'filename'\n")]
    [InlineData("logfile /nonexistent/x", "Error opening logfile /nonexistent/x: No such file or directory\n")]
    [InlineData("logfile /tmp/a%d%d", "Bad logfile template: /tmp/a%d%d\n")]
    [InlineData("log strace", "Error: strace: it is of user mode emulation\n")]
    [InlineData("log lockstep", "Error: lockstep: it begins with the machine; use -d lockstep\n")]
    [InlineData("log tid", "Error: Filename template with '%d' required for 'tid'\n")]
    [InlineData("log trace:nonsense", "warning: trace event 'nonsense' does not exist\n")]
    [InlineData("trace-event foo on", "Error: unknown event \"foo\"\n")]
    [InlineData("trace-event nosuch* on", "")]
    [InlineData("trace-event serial_read maybe", "Expected 'on' or 'off'\nTry \"help trace-event\" for more " +
        "information\n")]
    [InlineData("trace-event serial_read on 9", "Error: invalid vCPU index 9\n")]
    [InlineData("trace-event serial_read on 0", "Error: event \"serial_read\" is not vCPU-specific\n")]
    [InlineData("info trace-events zzz", "Error: unknown event \"zzz\"\n")]
    [InlineData("info trace-events serial_*", "serial_read : state 0\nserial_write : state 0\n")]
    [InlineData("info opcount", "Error: Opcode count information is only available with accel=tcg\n")]
    public void The_human_monitor_prints(string line, string printed) => Assert.Equal(printed, _bench.Human(line));

    [Fact]
    public void Unknown_items_get_the_list()
    {
        string list = _bench.Human("log int,foo");
        Assert.StartsWith("Log items (comma separated):\nnone            remove all logs\n", list);
        Assert.EndsWith("\nUse \"log trace:help\" to get a list of trace events.\n", list);
        foreach ((string name, _, _) in LogItems.All) Assert.Contains($"\n{name} ", list);
        Assert.Equal(LogItem.None, _bench.Environment.Log!.Items);
    }

    [Fact]
    public void Items_and_file_change_while_the_machine_runs()
    {
        string file = Path.Combine(_scratch, "log-%d"), made = Path.Combine(_scratch, $"log-{Environment.ProcessId}");
        Assert.Equal("", _bench.Human("log guest_errors,unimp"));
        _bench.OnLoop(() => _bench.Machine.Board.Memory.Read(0xE0000000, 4));
        Assert.Equal("Invalid read at addr 0xE0000000, size 4, region '(null)', reason: rejected\n",
            $"{_bench.Logged}");
        Assert.Equal("", _bench.Human($"logfile {file}"));
        _bench.OnLoop(() => _bench.Machine.Board.Memory.Write(0xE0000000, 1, 0));
        Assert.StartsWith("Invalid write", File.ReadAllText(made));
        Assert.Equal("", _bench.Human("log none"));
        _bench.OnLoop(() => _bench.Machine.Board.Memory.Write(0xE0000000, 1, 0));
        Assert.Single(File.ReadAllLines(made));
        Assert.DoesNotContain("write", $"{_bench.Logged}");
    }

    [Fact]
    public void Trace_events_tell_of_a_machine_s_chips_and_states()
    {
        _bench.Human("trace-event * on");
        _bench.OnLoop(() =>
        {
            _bench.Machine.Board.Ports.Write(0xCF8, 4, 0x80000000);
            _bench.Machine.Board.Ports.Read(0xCFC, 2);
            _bench.Machine.Board.Ports.Write(0xA1, 1, 0xFB);
            _bench.Machine.Board.Ports.Read(0x3FD, 1);
        });
        _bench.Human("cont");
        _bench.Human("stop");
        string log = $"{_bench.Logged}";
        Assert.Contains("\npci_cfg_read i440FX 00:00.0 @0x0 -> 0x8086\n", log);
        Assert.Contains("\npic_ioport_write master 0 addr 0x1 val 0xfb\n", log);
        Assert.Contains("\nserial_read read addr 0x05 val 0x60\n", log);
        Assert.Matches(@"\nmemory_region_ops_read cpu -1 mr 0x[0-9a-f]+ addr 0x3fd value 0x60 size 1 name 'serial0'\n",
            log);
        Assert.Contains("\nrunstate_set current_run_state 6 (prelaunch) new_state 9 (running)\n"
            + "vm_state_notify running 1 reason 9 (running)\n", log);
        Assert.Contains("\nvm_state_notify running 0 reason 4 (paused)\n", log);
        Assert.Matches(@"\nhandle_hmp_command mon 0x[0-9a-f]+ cmdline: stop\n", log);
    }

    [Fact]
    public void Trace_events_have_a_state_in_QMP()
    {
        _bench.Query("trace-event-set-state", """{"name":"pci_*","enable":true}""");
        Assert.Equal("""[{"name":"pci_cfg_read","vcpu":false,"state":"enabled"}]""",
            _bench.Query("trace-event-get-state", """{"name":"pci_cfg_read"}""").GetRawText());
        Assert.Equal("[]", _bench.Query("trace-event-get-state", """{"name":"no*"}""").GetRawText());
        Assert.Equal("unknown event \"no\"", Assert.Throws<CommandException>(
            () => _bench.Query("trace-event-set-state", """{"name":"no","enable":true}""")).Message);
    }

    [Fact]
    public void A_driver_that_breaks_the_rules_of_its_queues_is_told_of()
    {
        _bench.Human("log guest_errors");
        _bench.OnLoop(() => _bench.Context.Devices.Select(d => d.Device.Device).OfType<VirtioPci>().First().Control
            .Fail("descriptor 7 leads to itself"));
        Assert.Equal("virtio-blk-pci: descriptor 7 leads to itself\n", $"{_bench.Logged}");
    }

    [Fact]
    public void A_command_that_a_drive_does_not_have_is_told_of()
    {
        using var bench = new ControlBench(config => config with
        {
            Devices = [.. config.Devices, new DeviceConfig("ide-cd", null, [], "-cdrom")],
        });
        bench.Human("log unimp");
        bench.OnLoop(() =>
        {
            bench.Machine.Board.Ports.Write(0x176, 1, 0xA0);       // the master of the second channel
            bench.Machine.Board.Ports.Write(0x177, 1, 0xFE);
            bench.Machine.Board.Ports.Write(0x1F6, 1, 0xA0);
            bench.Machine.Board.Ports.Write(0x1F7, 1, 0xFE);
        });
        Assert.Equal("ide-cd: command 0xfe is not implemented\n", $"{bench.Logged}");
    }

    [Fact]
    public void ROM_is_listed_where_it_lies() => Assert.Contains(
        "addr=00000000fffc0000 size=0x040000 mem=rom name=\"pc.bios\"\n", _bench.Human("info roms"));
}
