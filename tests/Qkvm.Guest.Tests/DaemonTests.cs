using System.Diagnostics;

namespace Qkvm.Guest.Tests;

/// <summary>-daemonize: who starts it goes on when the machine can be reached.</summary>
public sealed class DaemonTests : IDisposable
{
    readonly ScratchDirectory _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [PublishedFact]
    public void The_program_returns_when_the_machine_listens_and_has_written_its_number()
    {
        string socket = _scratch["monitor"], pid = _scratch["pid"];
        using GuestProcess start = GuestProcess.Start("-machine", "pc", "-S", "-display", "none", "-daemonize",
            "-pidfile", pid, "-monitor", $"unix:{socket},server=on,wait=off");
        Assert.Equal(0, start.WaitExit());
        Assert.Equal("", start.Errors);
        using Process daemon = Process.GetProcessById(int.Parse(File.ReadAllText(pid)));
        using var monitor = new MonitorClient(socket);
        Assert.Contains("paused", monitor.Run("info status"));
        Assert.Equal("/dev/null", File.ResolveLinkTarget($"/proc/{daemon.Id}/fd/0", false)!.FullName);
        Assert.Equal("/", File.ResolveLinkTarget($"/proc/{daemon.Id}/cwd", false)!.FullName);
        Assert.Equal(daemon.Id, Session(daemon.Id));
        monitor.SendLine("quit");
        Assert.True(daemon.WaitForExit(Surroundings.Patience));
    }

    [ProgramFact]
    public void What_keeps_the_machine_from_starting_is_said_before_it_returns()
    {
        using GuestProcess start = GuestProcess.Start("-daemonize", "-display", "none", "-hda", _scratch["nothing"]);
        Assert.Equal(1, start.WaitExit());
        Assert.Contains("No such file", start.Errors);
    }

    [ProgramFact]
    public void A_terminal_and_a_daemon_exclude_each_other()
    {
        using GuestProcess graphic = GuestProcess.Start("-daemonize", "-nographic");
        Assert.Equal(1, graphic.WaitExit());
        Assert.Contains("-nographic cannot be used with -daemonize", graphic.Errors);
        using GuestProcess serial = GuestProcess.Start("-daemonize", "-display", "none", "-serial", "stdio");
        Assert.Equal(1, serial.WaitExit());
        Assert.Contains("-serial stdio: cannot use stdio with -daemonize", serial.Errors);
    }

    static int Session(int process) =>
        int.Parse(File.ReadAllText($"/proc/{process}/stat").Split(") ")[1].Split(' ')[3]);
}
