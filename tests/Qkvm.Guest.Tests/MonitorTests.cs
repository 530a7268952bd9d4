using System.Net.Sockets;
using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>The human monitor of a running machine, on a UNIX socket.</summary>
public sealed class MonitorTests : IDisposable
{
    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    [ProgramTheory]
    [InlineData("-monitor")] [InlineData("-qmp")]
    public void A_page_in_a_browser_gets_no_monitor(string option)
    {
        string path = _files["socket"];
        using GuestProcess machine = GuestProcess.Start("-M", "none", "-nodefaults", "-display", "none", option,
            $"unix:{path},server=on,wait=off");
        string request = "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nquit\n{\"execute\":\"qmp_capabilities\"}"
            + "{\"execute\":\"quit\"}\n";
        for (int i = 0; i < 2; i++)                                // the next client finds it listening
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
            while (!socket.Connected)
                try { socket.Connect(new UnixDomainSocketEndPoint(path)); }
                catch (SocketException) when (DateTime.UtcNow < deadline) { Thread.Sleep(20); }
            socket.ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds;
            socket.Send(Encoding.ASCII.GetBytes(request));
            var buffer = new byte[4096];
            string greeting = "";
            try
            {
                for (int n; (n = socket.Receive(buffer)) > 0;) greeting += Encoding.ASCII.GetString(buffer, 0, n);
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset) { }
            Assert.DoesNotContain("return", greeting);
        }
    }

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
