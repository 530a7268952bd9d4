namespace Qkvm.Guest.Tests;

/// <summary>-d, -D, -dfilter and -trace of the software CPU, with SeaBIOS as the guest.</summary>
public sealed class LogTests : IDisposable
{
    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    string[] Machine(params string[] more) => ["-accel", "tcg", "-display", "none", "-nodefaults", "-S", "-monitor",
        $"unix:{_files["monitor"]},server=on,wait=off", .. more];

    [ProgramFact]
    public void The_software_CPU_tells_while_it_is_asked()
    {
        using GuestProcess guest = GuestProcess.Start(Machine("-D", _files["log"]));
        using var monitor = new MonitorClient(_files["monitor"]);
        Assert.Equal("", File.ReadAllText(_files["log"]));
        Assert.Equal("", monitor.Run("log mmu,in_asm,pcall,int"));
        monitor.Run("cont");
        string log = Await("CR0 update: CR0=0x00000011\n");        // into protected mode
        Assert.Contains("----------------\nIN: \n0x0000fff0:  ea 5b e0 00 f0 ", log);
        monitor.Run("log none");
        monitor.Run("stop");
        long length = new FileInfo(_files["log"]).Length;
        monitor.Run("cont");
        monitor.Run("system_reset");
        monitor.Run("stop");
        Assert.Equal(length, new FileInfo(_files["log"]).Length);
        monitor.SendLine("quit");
        Assert.Equal(0, guest.WaitExit());
    }

    [ProgramFact]
    public void A_filter_leaves_other_addresses_out()
    {
        using GuestProcess guest = GuestProcess.Start(Machine("-D", _files["log-%d"], "-d", "exec", "-dfilter",
            "0xe05b..0xe05d,0xfff0+1"));
        using var monitor = new MonitorClient(_files["monitor"]);
        monitor.Run("cont");
        string log = Await(":000000000000e05b ", $"log-{guest.Id}");
        Assert.StartsWith("Trace 0: CPU 0 IP=f000:000000000000fff0 ", log);
        monitor.Run("stop");
        foreach (string line in File.ReadLines(_files[$"log-{guest.Id}"]))
            Assert.Matches("^Trace 0: CPU 0 IP=[0-9a-f]{4}:000000000000(fff0|e05b|e05c|e05d) ", line);
        monitor.SendLine("quit");
        guest.WaitExit();
    }

    [ProgramFact]
    public void Trace_events_come_from_the_command_line_and_from_a_file()
    {
        File.WriteAllText(_files["events"], "# of PCI\n\npci_cfg_*\n");
        using GuestProcess guest = GuestProcess.Start(Machine("-trace", $"events={_files["events"]}", "-trace",
            $"runstate_set,file={_files["log"]}"));
        using var monitor = new MonitorClient(_files["monitor"]);
        Assert.Contains("pci_cfg_read : state 1", monitor.Run("info trace-events"));
        Assert.Contains("serial_read : state 0", monitor.Run("info trace-events"));
        monitor.Run("cont");
        Assert.StartsWith("runstate_set current_run_state 6 (prelaunch) new_state 9 (running)\n",
            Await("pci_cfg_read i440FX 00:00.0 @0x0 -> 0x8086\n"));
        monitor.SendLine("quit");
        guest.WaitExit();
    }

    [ProgramTheory]
    [InlineData("-d", "foo", "-d foo: unknown log item; there are out_asm, in_asm, ")]
    [InlineData("-d", "strace", "-d strace: it is of user mode emulation; leave it out")]
    [InlineData("-d", "tid", "-d tid: Filename template with '%d' required for 'tid'")]
    [InlineData("-D", "/nonexistent/x", "-D /nonexistent/x: Error opening logfile /nonexistent/x: No such file")]
    [InlineData("-dfilter", "1..0", "-dfilter 1..0: Invalid range: '1..0'; write FIRST..LAST")]
    [InlineData("-trace", "foo=bar", "-trace foo=bar: invalid parameter 'foo'")]
    public void What_is_wrong_is_named(string option, string argument, string message)
    {
        using GuestProcess guest = GuestProcess.Start("-M", "none", option, argument);
        Assert.Equal(1, guest.WaitExit());
        Assert.StartsWith($"qkvm: {message}", guest.Errors);
    }

    /// <summary>Waits until the log contains the text.</summary>
    string Await(string text, string file = "log")
    {
        for (DateTime deadline = DateTime.UtcNow + Surroundings.Patience; DateTime.UtcNow < deadline; Thread.Sleep(20))
            if (File.ReadAllText(_files[file]) is { } log && log.Contains(text, StringComparison.Ordinal)) return log;
        Assert.Fail($"'{text}' did not come");
        return "";
    }
}
