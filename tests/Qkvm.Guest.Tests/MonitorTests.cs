namespace Qkvm.Guest.Tests;

/// <summary>The human monitor of a running machine, on a UNIX socket.</summary>
public sealed class MonitorTests : IDisposable
{
    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    [GuestFact]
    public void The_monitor_stops_continues_resets_and_quits()
    {
        string socket = _files["monitor"];
        using GuestProcess guest = GuestProcess.Start("-display", "none", "-serial", "stdio", "-monitor",
            $"unix:{socket},server=on,wait=off",
            "-drive", $"id=boot,format=raw,snapshot=on,file={Surroundings.BootSector}");
        using var monitor = new MonitorClient(socket);
        Assert.Contains("type 'help' for more information", monitor.Banner, StringComparison.Ordinal);
        guest.Expect("boot sector ok");

        Assert.Equal("VM status: running", monitor.Run("info status"));
        Assert.Matches(@"^\d+\.\d+\.\d+$", monitor.Run("info version"));
        Assert.Contains("boot", monitor.Run("info block"), StringComparison.Ordinal);
        Assert.Contains(Surroundings.BootSector, monitor.Run("info block"), StringComparison.Ordinal);
        // The boot sector halts in real mode with SS = DS = 0 and its stack below itself.
        Assert.Matches(@"(?s)CPU#0.*ESP=00007c00.*EIP=00007c[0-9a-f]{2}.*CR0=", monitor.Run("info registers"));
        Assert.Contains("system_reset", monitor.Run("help"), StringComparison.Ordinal);
        Assert.Equal("unknown command: 'nonsense'", monitor.Run("nonsense"));

        monitor.Run("stop");
        Assert.Equal("VM status: paused", monitor.Run("info status"));
        monitor.Run("cont");
        Assert.Equal("VM status: running", monitor.Run("info status"));

        monitor.Run("system_reset");
        guest.Expect("boot sector ok", occurrence: 2);
        monitor.SendLine("quit");
        Assert.Equal(0, guest.WaitExit());
    }

    [GuestFact]
    public void A_machine_started_with_S_waits_for_cont()
    {
        string socket = _files["monitor"];
        using GuestProcess guest = GuestProcess.Start("-S", "-display", "none", "-serial", "stdio", "-monitor",
            $"unix:{socket},server=on,wait=off",
            "-drive", $"format=raw,snapshot=on,file={Surroundings.BootSector}");
        using var monitor = new MonitorClient(socket);
        Assert.Equal("VM status: paused (prelaunch)", monitor.Run("info status"));
        Assert.Equal("", guest.Output);
        monitor.Run("c");
        guest.Expect("boot sector ok");
        monitor.SendLine("q");
        Assert.Equal(0, guest.WaitExit());
    }
}
