using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Debian's gdb on guests: it is told in batch what to do, and prints what it sees.</summary>
public sealed class GdbTests : IDisposable
{
    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    string Socket => _files["gdb"];

    /// <summary>A guest that stands before its first instruction.</summary>
    GuestProcess Start(params string[] arguments) => GuestProcess.Start(["-display", "none", "-serial", "stdio",
        "-monitor", "none", "-S", "-gdb", $"unix:{Socket},server=on,wait=off", .. arguments]);

    GuestProcess StartBootSector(string accelerator) => Start("-accel", accelerator, "-drive",
        $"format=raw,snapshot=on,file={Surroundings.BootSector}");

    /// <returns>What gdb printed, errors included.</returns>
    string Debug(params string[] commands)
    {
        string script = _files["script"];
        // After two seconds, gdb's default, it asks again, and takes the two answers for those of two questions.
        File.WriteAllLines(script, ["set pagination off", "set confirm off",
            $"set remotetimeout {Surroundings.Patience.TotalSeconds:0}", $"target remote {Socket}", .. commands]);
        Assert.True(SpinWait.SpinUntil(() => File.Exists(Socket), Surroundings.Patience), "no socket");
        using GuestProcess gdb = GuestProcess.StartOther("gdb", "-nx", "-batch", "-x", script);
        Assert.True(gdb.WaitExit() == 0, gdb.Output + gdb.Errors);
        return gdb.Output + gdb.Errors;
    }

    static string Value(string output, string name) =>
        Regex.Match(output, $@"^{name} += (.*)$", RegexOptions.Multiline).Groups[1].Value;

    [GdbFact]
    public void Gdb_follows_the_firmware_from_real_to_protected_mode() => FollowFirmware("tcg");

    [GdbKvmFact]
    public void Gdb_follows_the_firmware_from_real_to_protected_mode_under_KVM() => FollowFirmware("kvm");

    void FollowFirmware(string accelerator)
    {
        using GuestProcess guest = StartBootSector(accelerator);
        string seen = Debug("""printf "start = %x:%x\n", $cs, $rip""", "stepi", """printf "jumped = %x\n", $rip""",
            "set $n = 0", "while (($cr0 & 1) == 0 && $n < 1000)", "stepi", "set $n = $n + 1", "end",
            """printf "protected = %d\n", $cr0 & 1""", "stepi", """printf "far = %x:%x\n", $cs, (long)$rip & ~0xffff""",
            // Two instructions further, by a breakpoint.
            "x/3i $rip", "set $further = $_", "break *$further", "continue",
            """printf "further = %d\n", $rip == $further && $n > 5""", "info breakpoints", "delete", "detach");
        Assert.Equal(("f000:fff0", "e05b", "1", "8:f0000", "1"), (Value(seen, "start"), Value(seen, "jumped"),
            Value(seen, "protected"), Value(seen, "far"), Value(seen, "further")));
        Assert.Contains("breakpoint already hit 1 time", seen, StringComparison.Ordinal);
        guest.Expect("boot sector ok");                            // it went on
    }

    [GdbFact]
    public void Gdb_stops_where_the_firmware_is_going_to_load_the_boot_sector() => StopAtBootSector("tcg", "break");

    /// <summary>As with QEMU, this takes a hardware breakpoint: others are overwritten.</summary>
    [GdbKvmFact]
    public void Gdb_stops_where_the_firmware_is_going_to_load_the_boot_sector_under_KVM() =>
        StopAtBootSector("kvm", "hbreak");

    void StopAtBootSector(string accelerator, string command)
    {
        using GuestProcess guest = StartBootSector(accelerator);
        string seen = Debug($"{command} *0x7c00", "continue", """printf "boot = %x:%x\n", $cs, $rip""", "x/1xb 0x7dfe",
            "delete", "detach");
        Assert.Equal("0:7c00", Value(seen, "boot"));
        Assert.Matches(@"0x7dfe:\s+0x55", seen);
        guest.Expect("boot sector ok");
    }

    [GdbTinyFact]
    public void Gdb_stops_a_kernel_at_start_kernel_and_steps_through_it() =>
        StepThroughKernel("tcg", "hbreak");

    /// <summary>break, not hbreak, where there is no code yet.</summary>
    [GdbTinyKvmFact]
    public void Gdb_stops_a_kernel_at_start_kernel_and_steps_through_it_under_KVM() =>
        StepThroughKernel("kvm", "break");

    /// <summary>Its symbols come from a first start, which prints them.</summary>
    void StepThroughKernel(string accelerator, string breakpoint)
    {
        string startKernel, schedule, jiffies;
        string[] kernel = ["-accel", accelerator, "-kernel", Surroundings.Kernel, "-initrd", Surroundings.Initrd,
            "-m", "256M", "-smp", "2", "-append", "console=ttyS0 nokaslr quiet"];
        using (GuestProcess first = GuestProcess.Start(["-display", "none", "-serial", "stdio", "-monitor", "none",
            .. kernel]))
        {
            first.Expect("TINY READY");
            first.Send("grep -wE 'start_kernel|__schedule|jiffies' /proc/kallsyms\n");
            (schedule, jiffies, startKernel) = (AddressOf(first, "t __schedule"), AddressOf(first, "D jiffies"),
                AddressOf(first, "T start_kernel"));
        }
        using GuestProcess guest = Start(kernel);
        string seen = Debug($"{breakpoint} *0x{startKernel}", "continue", """printf "start = %lx\n", $rip""",
            """printf "cr4 = %x\n", $cr4 & 0x20""", "x/i $rip", "stepi", "nexti", "nexti",
            "delete", $"break *0x{schedule}", "continue",
            """printf "schedule = %lx\n", $rip""", "delete", "info threads",
            $"watch *(long*)0x{jiffies}", "continue", "continue", "delete", "thread 2",
            """printf "second = %d\n", $_thread""", "monitor info status", "detach");
        Assert.Equal((startKernel, "20", schedule, "2"), (Value(seen, "start"), Value(seen, "cr4"),
            Value(seen, "schedule"), Value(seen, "second")));
        Assert.Contains("Thread 1.2 (CPU#1", seen, StringComparison.Ordinal);
        Assert.Contains("VM status: paused (debug)", seen, StringComparison.Ordinal);
        MatchCollection values = Regex.Matches(seen, @"(?:Old|New) value = (-?\d+)");
        Assert.Equal(4, values.Count);
        long[] ticks = [.. values.Select(value => long.Parse(value.Groups[1].Value))];
        Assert.Equal((ticks[0] + 1, ticks[1], ticks[2] + 1), (ticks[1], ticks[2], ticks[3]));
        guest.Expect("TINY READY");
    }

    static string AddressOf(GuestProcess guest, string symbol)
    {
        guest.Expect(symbol);
        return Regex.Match(guest.Output, $@"(?m)^([0-9a-f]{{16}}) {symbol}\r?$").Groups[1].Value;
    }

    /// <summary>Over TCP, as -s has it; ctrl-c comes from gdb's side.</summary>
    [GdbFact]
    public void Gdb_interrupts_a_guest_and_can_come_again()
    {
        int port = FreePort();
        using GuestProcess guest = GuestProcess.Start("-display", "none", "-serial", "stdio", "-monitor", "none",
            "-gdb", $"tcp:127.0.0.1:{port}", "-drive", $"format=raw,snapshot=on,file={Surroundings.BootSector}");
        guest.Expect("boot sector ok");
        for (int time = 0; time < 2; time++)
        {
            using GuestProcess gdb = GuestProcess.StartOther("gdb", "-nx", "-q");
            gdb.Send($"set confirm off\ntarget remote 127.0.0.1:{port}\nprintf \"first = %x\\n\", $rip\n");
            gdb.Expect("first = 7c");
            gdb.Send("continue\n");
            gdb.Expect("Continuing.");
            // gdb loses one that comes before it waits for the guest
            DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
            while (!gdb.Output.Contains("SIGINT") && DateTime.UtcNow < deadline)
            {
                Thread.Sleep(500);
                gdb.Signal(2);
            }
            gdb.Expect("SIGINT");
            gdb.Send("printf \"second = %x\\n\", $rip\n");
            gdb.Expect("second = 7c");
            gdb.Send("detach\nquit\n");
            Assert.Equal(0, gdb.WaitExit());
        }
    }

    [LldbFact]
    public void Lldb_stops_at_a_breakpoint_and_steps()
    {
        int port = FreePort();
        using GuestProcess guest = GuestProcess.Start("-display", "none", "-serial", "stdio", "-monitor", "none",
            "-S", "-gdb", $"tcp:127.0.0.1:{port}", "-drive", $"format=raw,snapshot=on,file={Surroundings.BootSector}");
        using GuestProcess lldb = GuestProcess.StartOther("lldb", "--no-lldbinit", "--batch",
            "-o", $"gdb-remote 127.0.0.1:{port}", "-o", "breakpoint set -H -a 0x7c00", "-o", "continue",
            "-o", "register read rip cs cr0", "-o", "breakpoint delete -f", "-o", "thread step-inst",
            "-o", "register read rip", "-o", "memory read -s 1 -c 2 -f x 0x7dfe", "-o", "detach", "-o", "quit");
        Assert.Equal(0, lldb.WaitExit());
        Assert.Contains("rip = 0x0000000000007c00", lldb.Output, StringComparison.Ordinal);
        Assert.Matches("rip = 0x0000000000007c0[1-9]", lldb.Output);
        Assert.Contains("0x55 0xaa", lldb.Output, StringComparison.Ordinal);
        guest.Expect("boot sector ok");
    }

    static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}

/// <summary>Needs gdb and the bare-metal guests.</summary>
sealed class GdbFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutGuests
    ?? Surroundings.Without("gdb", "gdb"));

/// <summary>Needs gdb and the tiny Linux guest.</summary>
sealed class GdbTinyFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutTiny()
    ?? Surroundings.Without("gdb", "gdb"));

/// <summary>Needs gdb, the bare-metal guests and a KVM with breakpoints.</summary>
sealed class GdbKvmFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutKvmPoints
    ?? Surroundings.Without("gdb", "gdb"));

/// <summary>And the tiny Linux guest.</summary>
sealed class GdbTinyKvmFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutKvmPoints
    ?? Surroundings.WithoutTiny() ?? Surroundings.Without("gdb", "gdb"));

/// <summary>Needs lldb and the bare-metal guests.</summary>
sealed class LldbFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutGuests
    ?? Surroundings.Without("lldb", "lldb"));
