using Qkvm.Core;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Testing;

namespace Qkvm.Core.Tests.Logging;

/// <summary>What a log says, and how much of it.</summary>
public sealed class MachineLogTests : IDisposable
{
    readonly StringWriter _text = new();
    readonly MachineLog _log;
    readonly string _scratch = Directory.CreateTempSubdirectory("qkvm-log-").FullName;
    long _now;

    public MachineLogTests() => _log = new MachineLog(_text, () => _now);

    public void Dispose()
    {
        _log.Dispose();
        Directory.Delete(_scratch, recursive: true);
    }

    sealed class Zeros : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => 0x60;
        public void Write(ulong offset, int size, ulong value) { }
    }

    AddressSpace Space(bool isMemory = true)
    {
        MemoryRegion root = MemoryRegion.Container("root", 0x10000);
        MemoryRegion registers = MemoryRegion.Io("serial0", 8, new Zeros(), AccessSizes.ByteOnly);
        registers.Traces = RegionTraces.Serial;
        root.Map(0x3F8, registers);
        return new AddressSpace("test", root, new MachineLock()) { Log = _log, RejectsUnassigned = isMemory };
    }

    /// <summary>An accelerator that sees no instructions.</summary>
    [Theory]
    [InlineData(LogItem.Int | LogItem.CpuReset | LogItem.Cpu, "-d int,cpu: no effect under fake, where the processor "
        + "tells nothing of it; needs -accel tcg")]
    [InlineData(LogItem.CpuReset | LogItem.Unimp | LogItem.GuestErrors | LogItem.Tid, null)]
    public void Items_that_an_accelerator_tells_nothing_of_are_named(LogItem asked, string? warning)
    {
        using var silent = new FakeAccelerator { SilentItems = LogItem.SoftwareCpu };
        Assert.Equal(warning, LogItems.Warning("-d", asked, silent));
        using var other = new FakeAccelerator();
        Assert.Null(LogItems.Warning("-d", asked, other));
    }

    [Fact]
    public void Accesses_that_make_no_sense_are_told_in_QEMU_s_words()
    {
        _log.Select(LogItem.GuestErrors);
        AddressSpace space = Space();
        space.Read(0x1000, 4);
        space.Write(0xFFF0, 8, 1);
        space.Read(0x3F8, 2);
        Assert.Equal("""
            Invalid read at addr 0x1000, size 4, region '(null)', reason: rejected
            Invalid write at addr 0xFFF0, size 8, region '(null)', reason: rejected
            Invalid read at addr 0x0, size 2, region 'serial0', reason: invalid size (min:1 max:1)

            """, _text.ToString());
        Space(isMemory: false).Read(0x1000, 1);                    // a driver looks for a device
        _log.Select(LogItem.Unimp);
        space.Read(0x1000, 4);
        Assert.Equal(3, _text.ToString().Count(c => c == '\n'));
    }

    [Fact]
    public void A_guest_that_errs_all_the_time_gets_some_lines_a_second()
    {
        _log.Select(LogItem.GuestErrors);
        for (int i = 0; i < 5000; i++) _log.GuestError("disk", $"no {i}");
        _log.GuestError("net", "another source");
        string[] lines = _text.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(MachineLog.MostLines + 1, lines.Length);
        Assert.Equal("another source", lines[^1]);
        _now += 1000;
        _log.GuestError("disk", "later");
        lines = _text.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal([$"disk: {5000 - MachineLog.MostLines} more lines left out", "later"], lines[^2..]);
    }

    [Fact]
    public void Trace_events_tell_of_registers_while_they_are_on()
    {
        AddressSpace space = Space();
        space.Read(0x3FD, 1);
        Assert.True(_log.Events.Request("memory_region_ops_r*"));
        space.Read(0x3FD, 1);
        Assert.Matches(@"^memory_region_ops_read cpu -1 mr 0x[0-9a-f]+ addr 0x3fd value 0x60 size 1 name 'serial0'\n$",
            _text.ToString());
        _text.GetStringBuilder().Clear();
        Assert.True(_log.Events.Request("-memory_region_ops_*"));
        Assert.True(_log.Events.Request("serial_*"));
        space.Write(0x3F9, 1, 0xFF);
        space.Read(0x3FD, 1);
        Assert.Equal("serial_write write addr 0x01 val 0xff\nserial_read read addr 0x05 val 0x60\n", _text.ToString());
        Assert.False(_log.Events.Request("nonsense"));
        Assert.True(_log.Events.Request("nonsense*"));
    }

    [Theory]
    [InlineData("a%d%d", false, "Bad logfile template: ")]
    [InlineData("a%s", false, "Bad logfile template: ")]
    [InlineData("a%", false, "Bad logfile template: ")]
    [InlineData("no/such", false, "Error opening logfile ")]
    [InlineData("a", true, "Filename template with '%d' required for 'tid'")]
    public void Files_are_refused_as_QEMU_refuses_them(string name, bool tid, string message)
    {
        string path = Path.Combine(_scratch, name);
        var e = Assert.Throws<ConfigurationException>(() => _log.Start(path, tid ? LogItem.Tid : LogItem.None));
        Assert.StartsWith(message, e.Message);
        _log.Write("goes on\n");
        Assert.Equal("goes on\n", _text.ToString());
    }

    [Fact]
    public void Each_thread_has_a_file_of_its_own_where_asked()
    {
        _log.OpenFile(Path.Combine(_scratch, "one-%d"));
        _log.Write("first\n");
        _log.Select(LogItem.Tid);
        var thread = new Thread(() => _log.Write("second\n"));
        thread.Start();
        thread.Join();
        Assert.Equal("", _text.ToString());
        Assert.Contains("second\n", Directory.GetFiles(_scratch).Select(File.ReadAllText));
        Assert.Equal(2, Directory.GetFiles(_scratch).Length);
    }

    [Theory]
    [InlineData("0x1000..0x1fff", 0x1000, 0x1FFF)]
    [InlineData("0x1000+0x1000", 0x1000, 0x1FFF)]
    [InlineData("8191-4096", 0x1000, 0x1FFF)]
    public void Ranges_have_both_ends(string text, ulong first, ulong last)
    {
        AddressFilter filter = AddressFilter.Parse([text]);
        Assert.Equal([false, true, true, false],
            new[] { first - 1, first, last, last + 1 }.Select(filter.Contains));
    }

    [Theory]
    [InlineData("0x1000", "Bad range specifier")]
    [InlineData("2..1", "Invalid range")]
    [InlineData("x..1", "Invalid number to the left of ..")]
    [InlineData("1+zz", "Invalid number to the right of +")]
    [InlineData("1-", "Invalid number to the right of -")]
    [InlineData("1+0", "Invalid range")]
    public void Wrong_ranges_are_refused(string text, string message) => Assert.StartsWith(
        $"-dfilter {text}: {message}: ",
        Assert.Throws<ConfigurationException>(() => AddressFilter.Parse([text])).Message);

    [Fact]
    public void Items_are_read_and_wrong_ones_named()
    {
        List<string> traces = [];
        LogItem items = LogItems.Parse("int,guest_errors,trace:pci_*", traces, out var wrong);
        Assert.Equal((LogItem.Int | LogItem.GuestErrors, null), (items, wrong));
        Assert.Equal(["pci_*"], traces);
        LogItems.Parse("int,nonsense", traces, out wrong);
        Assert.Equal("nonsense", wrong?.Item);
        LogItems.Parse("strace", traces, out wrong);
        Assert.Equal("it is of user mode emulation", wrong?.Reason);
    }

    [Theory]
    [InlineData(LogItem.Int, "/dev/full")]
    [InlineData(LogItem.Int | LogItem.Tid, "full-%d")]
    public void A_full_disk_ends_the_log_and_says_so_once(LogItem items, string name)
    {
        if (name != "/dev/full")
        {
            // The file of this process is opened at once; Linux gives the main thread that number, tests run on others.
            File.CreateSymbolicLink(Path.Combine(_scratch, $"full-{Environment.ProcessId}"), "/dev/full");
            File.CreateSymbolicLink(Path.Combine(_scratch, $"full-{Qkvm.Host.Libc.gettid()}"), "/dev/full");
            name = Path.Combine(_scratch, name);
        }
        _log.Start(name, items);
        _log.Write("one\n");
        _log.Write("two\n");
        Assert.StartsWith("qkvm: warning: the log ends: No space left on device", _text.ToString());
        Assert.Equal(1, _text.ToString().Count(c => c == '\n'));
        _log.OpenFile(Path.Combine(_scratch, "other-%d"));
        _log.Write("three\n");
        _log.Dispose();
        Assert.Contains("three\n", Directory.GetFiles(_scratch, "other-*").Select(File.ReadAllText));
    }
}
