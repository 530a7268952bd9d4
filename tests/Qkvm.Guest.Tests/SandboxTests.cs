using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>-sandbox: the kernel forbids what a machine does not need.</summary>
public sealed class SandboxTests : IDisposable
{
    const string All = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

    readonly ScratchDirectory _scratch = new();

    public void Dispose() => _scratch.Dispose();

    /// <summary>All threads are filtered; Linux runs, and QMP, VNC and gdb are served.</summary>
    [PublishedTinyFact]
    public void A_machine_runs_inside()
    {
        string monitor = _scratch["monitor"], vnc = _scratch["vnc"], gdb = _scratch["gdb"];
        using GuestProcess guest = GuestProcess.Start("-sandbox", All, "-kernel", Surroundings.Kernel, "-initrd",
            Surroundings.Initrd, "-append", "console=ttyS0", "-m", "256M", "-smp", "2", "-serial", "stdio", "-monitor",
            $"unix:{monitor},server=on,wait=off", "-vnc", $"unix:{vnc}", "-gdb", $"unix:{gdb},server=on,wait=off");
        guest.Expect("TINY READY");
        Assert.All(Directory.GetDirectories($"/proc/{guest.Id}/task"), task =>
        {
            string status = File.ReadAllText($"{task}/status");
            Assert.Contains("Seccomp:\t2", status);
            Assert.Contains("NoNewPrivs:\t1", status);
        });
        using var client = new MonitorClient(monitor);
        Assert.Contains("running", client.Run("info status"));
        Assert.Equal("", client.Run($"dump-guest-memory {_scratch["dump"]}")); // on threads that are new
        using var viewer = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix,
            System.Net.Sockets.SocketType.Stream, 0);
        viewer.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(vnc));
        var greeting = new byte[12];
        Assert.Equal(12, viewer.Receive(greeting));
        Assert.StartsWith("RFB 003.008", System.Text.Encoding.ASCII.GetString(greeting));
        using var debugger = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix,
            System.Net.Sockets.SocketType.Stream, 0);
        debugger.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(gdb));
        debugger.Send("+$?#3f"u8);
        Assert.True(debugger.Receive(greeting) > 0);
        Assert.Equal((byte)'+', greeting[0]);
        client.SendLine("quit");
        Assert.Equal(0, guest.WaitExit());
    }

    /// <summary>A debugger has it call fork.</summary>
    [GdbFact]
    public void A_forbidden_call_kills()
    {
        const int badSystemCall = 128 + 31;
        string monitor = _scratch["monitor"];
        using GuestProcess guest = GuestProcess.Start("-sandbox", "on,spawn=deny", "-machine", "none", "-display",
            "none", "-monitor", $"unix:{monitor},server=on,wait=off");
        using (var client = new MonitorClient(monitor)) client.Run("info status");
        using GuestProcess gdb = GuestProcess.StartOther("gdb", "-q", "-batch", "-nx", "-p", $"{guest.Id}", "-ex",
            "print (long)syscall(57)");
        Assert.Equal(badSystemCall, guest.WaitExit());
    }

    /// <summary>QEMU is killed here; a word is better.</summary>
    [ProgramFact]
    public void Programs_that_may_not_be_started_are_refused()
    {
        using GuestProcess guest = GuestProcess.Start("-sandbox", "on,spawn=deny", "-machine", "none", "-display",
            "none", "-netdev", "bridge,id=n,helper=/bin/true");
        Assert.Equal(1, guest.WaitExit());
        Assert.Contains("-sandbox spawn=deny forbids to start programs", guest.Errors);
    }

    [ProgramTheory]
    [InlineData("maybe", "Parameter 'enable' expects 'on' or 'off'")]
    [InlineData("on,spawn=children", "invalid argument for spawn")]
    [InlineData("on,obsolete=x", "invalid argument for obsolete")]
    [InlineData("on,spwan=deny", "spwan")]
    public void A_mistake_is_told(string argument, string message)
    {
        using GuestProcess guest = GuestProcess.Start("-sandbox", argument, "-machine", "none", "-display", "none");
        Assert.Equal(1, guest.WaitExit());
        Assert.Contains($"-sandbox {argument}: ", guest.Errors);
        Assert.Contains(message, guest.Errors);
    }

    static string? NotPublished => File.Exists(Surroundings.Program + ".dll") ? "needs what make builds: the runtime "
        + $"of {Surroundings.Program} sets the affinity of its threads" : null;

    sealed class PublishedTinyFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutTiny() ?? NotPublished);

    sealed class GdbFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutProgram
        ?? Surroundings.Without("gdb", "gdb") ?? (File.Exists("/proc/sys/kernel/yama/ptrace_scope")
        && File.ReadAllText("/proc/sys/kernel/yama/ptrace_scope")[0] != '0' && !Environment.IsPrivilegedProcess
        ? "needs leave to attach a debugger" : null));
}
