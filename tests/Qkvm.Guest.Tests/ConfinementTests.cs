using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>-chroot, -runas and -run-with: what the process is once the machine can be reached.</summary>
public sealed class ConfinementTests : IDisposable
{
    readonly ScratchDirectory _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [ConfinedTheory]
    [InlineData("-runas nobody -chroot DIR", "65534")]
    [InlineData("-runas 1234:4321 -chroot DIR", "1234")]
    [InlineData("-run-with user=nobody,chroot=DIR", "65534")]
    [InlineData("-runas nobody -chroot DIR -sandbox on,elevateprivileges=deny,spawn=deny", "65534")]
    public void A_machine_has_no_rights_and_sees_no_files(string options, string user)
    {
        string monitor = _scratch["monitor"], root = Directory.CreateDirectory(_scratch["root"]).FullName;
        using GuestProcess guest = GuestProcess.Start([.. options.Replace("DIR", root).Split(' '), "-machine", "pc",
            "-m", "64M", "-display", "none", "-monitor", $"unix:{monitor},server=on,wait=off"]);
        using var client = new MonitorClient(monitor);
        Assert.Contains("running", client.Run("info status"));
        Assert.All(Directory.GetDirectories($"/proc/{guest.Id}/task"), task =>
        {
            string[] status = File.ReadAllLines($"{task}/status");
            Assert.Contains($"Uid:\t{user}\t{user}\t{user}\t{user}", status);
            Assert.Contains("CapEff:\t0000000000000000", status);
            Assert.DoesNotContain(status, line => line.StartsWith("Groups:", StringComparison.Ordinal)
                && line.Split('\t', ' ').Contains("0"));
        });
        Assert.Equal(root, File.ResolveLinkTarget($"/proc/{guest.Id}/root", false)!.FullName);
        Assert.Equal(root, File.ResolveLinkTarget($"/proc/{guest.Id}/cwd", false)!.FullName);
        client.SendLine("quit");
        Assert.Equal(0, guest.WaitExit());
    }

    [ProgramTheory]
    [InlineData("-runas nosuch", "-runas nosuch: User \"nosuch\" doesn't exist (and is not <uid>:<gid>)")]
    [InlineData("-runas 1:2:3", "-runas 1:2:3: User \"1:2:3\" doesn't exist")]
    [InlineData("-runas 4294967295:1", "User \"4294967295:1\" doesn't exist")]
    [InlineData("-chroot /nowhere", "-chroot /nowhere: chroot failed: ")]
    [InlineData("-run-with chroot=/nowhere", "-run-with chroot=/nowhere: chroot failed: ")]
    [InlineData("-run-with async-teardown=on", "async-teardown=on is not built yet")]
    [InlineData("-run-with usr=x", "usr")]
    public void What_cannot_be_given_up_ends_the_program(string options, string message)
    {
        using GuestProcess guest = GuestProcess.Start([.. options.Split(' '), "-machine", "none", "-display", "none"]);
        Assert.Equal(1, guest.WaitExit());
        Assert.Contains(message, guest.Errors);
    }

    sealed class ConfinedTheoryAttribute() : ConditionalTheoryAttribute(Surroundings.WithoutProgram
        ?? (Environment.IsPrivilegedProcess ? null : "needs root, to become somebody else")
        ?? (File.Exists(Surroundings.Program + ".dll") ? "needs what make builds: the parts of "
        + $"{Surroundings.Program} lie outside its new root" : null));
}
