namespace Qkvm.Guest.Tests;

/// <summary>The ways out, and what they leave behind.</summary>
public sealed class LeavingTests : IDisposable
{
    const int SigTerm = 15;

    /// <summary>SeaBIOS's, which under -nographic has its screen on the serial port.</summary>
    const string Booting = "Booting from Hard Disk";

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    static string[] Disk => ["-drive", $"format=raw,snapshot=on,file={Surroundings.BootSector}"];

    [ProgramFact]
    public void The_version_is_printed()
    {
        using GuestProcess program = GuestProcess.Start("-version");
        Assert.Equal(0, program.WaitExit());
        Assert.Matches(@"^qkvm \d+\.\d+\.\d+", program.Output);
        Assert.Equal("", program.Errors);
    }

    [GuestFact]
    public void Ctrl_a_x_ends_the_program()
    {
        using GuestProcess guest = GuestProcess.Start(["-nographic", .. Disk]);
        guest.Expect(Booting);
        guest.Send("\u0001x");
        Assert.Equal(0, guest.WaitExit());
    }

    [GuestFact]
    public void Ctrl_a_c_switches_to_the_monitor_and_back()
    {
        using GuestProcess guest = GuestProcess.Start(["-nographic", .. Disk]);
        guest.Expect(Booting);
        guest.Send("\u0001cinfo status\n");
        guest.Expect("VM status: running");
        guest.Send("quit\n");
        Assert.Equal(0, guest.WaitExit());
    }

    [GuestFact]
    public void SIGTERM_ends_the_program_with_0()
    {
        using GuestProcess guest =
            GuestProcess.Start(["-display", "none", "-serial", "stdio", "-monitor", "none", .. Disk]);
        guest.Expect("boot sector ok");
        guest.Signal(SigTerm);
        Assert.Equal(0, guest.WaitExit());
        Assert.Contains("terminating on signal", guest.Errors, StringComparison.Ordinal);
    }

    [TerminalFact]
    public void The_terminal_is_restored_after_SIGTERM()
    {
        string pidFile = _files["pid"];
        string run = $"{Surroundings.Program} -nographic -pidfile {pidFile} {string.Join(' ', Disk)}";
        using GuestProcess terminal = GuestProcess.StartOther("script", "-qefc",
            $"sh -c 'echo before $(stty -g); {run}; echo status $?; echo after $(stty -g)'", "/dev/null");
        string before = terminal.Expect("before ");
        terminal.Expect(Booting);
        using (GuestProcess kill = GuestProcess.StartOther("kill", "-TERM", File.ReadAllText(pidFile).Trim()))
            Assert.Equal(0, kill.WaitExit());
        Assert.Equal("status 0", terminal.Expect("status "));
        Assert.Equal(before["before ".Length..], terminal.Expect("after ")["after ".Length..]);
        Assert.Equal(0, terminal.WaitExit());
    }
}
