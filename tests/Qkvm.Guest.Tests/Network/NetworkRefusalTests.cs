namespace Qkvm.Guest.Tests.Network;

/// <summary>Networks that cannot be had: exit code 1, one line on stderr with the cause and the way out, and nothing
/// left behind.</summary>
public sealed class NetworkRefusalTests : IDisposable
{
    readonly NetworkNamespace _place = new();

    public void Dispose() => _place.Dispose();

    [TapFact]
    public void A_script_that_fails_or_does_not_run_says_why()
    {
        string fails = _place.WriteScript("fails", "echo no bridge >&2; echo nor a switch >&2; exit 7");
        Refused($"tap,id=n,script={fails}", $"network script {fails} failed with status 7: no bridge; nor a switch; "
            + "give script=no for none");
        string noProgram = _place.WriteScript("noprogram", "");
        _place.Run($"chmod -x {noProgram}");
        Refused($"tap,id=n,script={noProgram}", "could not be started: Permission denied; make it a program: chmod +x");
        _place.Run($"echo true >{noProgram}; chmod +x {noProgram}");
        Refused($"tap,id=n,script={noProgram}", "Exec format error; its first line must name a program");
        Refused("tap,id=n,script=/nowhere", "network script /nowhere does not exist; give script=no for none");
        Refused("tap,id=n,script=/etc", "network script /etc is a directory");
        Assert.DoesNotContain("tap", _place.Run("ip -o link"), StringComparison.Ordinal);
    }

    [TapFact]
    public void The_scripts_that_come_with_it_say_that_there_is_no_bridge()
    {
        _place.InstallScripts();
        Refused("tap,id=n", "network script /etc/qemu-ifup failed with status 1: there is no bridge br0: "
            + "ip link add br0 type bridge && ip link set br0 up");
    }

    [TapFact]
    public void Without_permission_it_says_who_may()
    {
        string[] nobody = ["setpriv", "--reuid=65534", "--clear-groups"];
        _place.Run("mknod /etc/tun c 10 200; mount --bind /etc/tun /dev/net/tun; chmod 600 /etc/tun");
        Refused("tap,id=n", "could not open /dev/net/tun: Permission denied; run as root, or give yourself access",
            nobody);
        _place.Run("chmod 666 /etc/tun");
        Refused("tap,id=n,ifname=vm0", "Operation not permitted; run as root, or let root create the interface for "
            + "you: ip tuntap add dev vm0 mode tap user $USER, then give ifname=vm0,script=no,downscript=no", nobody);

        // And as it says it works.
        _place.Run("ip tuntap add dev vm0 mode tap user 65534");
        using GuestProcess works = _place.Start(nobody[0], [.. nobody[1..], Surroundings.Program, "-S", "-display",
            "none", "-nodefaults", "-monitor", "stdio", "-netdev", "tap,id=n,ifname=vm0,script=no,downscript=no"]);
        works.Send("info network\nquit\n");
        Assert.Equal(0, works.WaitExit());
        Assert.Contains("ifname=vm0", works.Output, StringComparison.Ordinal);
    }

    [TapFact]
    public void An_interface_in_use_and_a_driver_that_is_not_there_are_told_apart()
    {
        using GuestProcess holder = _place.Start(Surroundings.Program, "-S", "-display", "none", "-nodefaults",
            "-monitor", "stdio", "-netdev", "tap,id=n,ifname=vm0,script=no,downscript=no");
        holder.Expect("monitor");
        Refused("tap,id=n,ifname=vm0,script=no", "(vm0): Device or resource busy; another program uses vm0: stop it, "
            + "or choose another ifname=");
        _place.Run("mknod /etc/none c 10 254; mount --bind /etc/none /dev/net/tun");
        Refused("tap,id=n,script=no", "No such device; load the kernel's driver: modprobe tun");
    }

    [NetworkFact]
    public void A_port_in_use_names_its_holder()
    {
        GuestProcess holder = _place.Serve("iperf3", "-s", "--forceflush", "-p", "2222");
        holder.Expect("Server listening");
        Refused("user,id=n,hostfwd=tcp::2222-:22", "cannot listen: Address already in use; iperf3 (process "
            + $"{holder.Id}) uses the port: choose another one, or 0 for any");
    }

    [NetworkTheory]
    [InlineData("user,id=n,hostfwd=tcp:22", "Invalid host forwarding rule 'tcp:22' (Missing - separator); write for "
        + "example tcp:127.0.0.1:2222-:22")]
    [InlineData("user,id=n,hostfwd=tcp::99999-:22", "(Bad host port); write for example")]
    [InlineData("bridge,id=n,br=nobr0,helper=/nowhere", "bridge helper /nowhere could not be started: No such file or "
        + "directory; install it")]
    [InlineData("socket,id=n,connect=127.0.0.1:9", "Connection refused; start the other end first")]
    [InlineData("socket,id=n,fd=77", "the program that starts this one must open it")]
    public void What_makes_no_sense_is_refused(string netdev, string because) => Refused(netdev, because);

    void Refused(string netdev, string because, params string[] by)
    {
        string[] line = [.. by, Surroundings.Program, "-display", "none", "-nodefaults", "-S", "-netdev", netdev];
        using GuestProcess program = _place.Start(line[0], line[1..]);
        int code = program.WaitExit();
        Assert.True(code == 1 && program.Errors.Count(c => c == '\n') == 1, $"exit code {code}\n{program.Errors}");
        Assert.StartsWith($"qkvm: -netdev {netdev}: ", program.Errors, StringComparison.Ordinal);
        Assert.Contains(because, program.Errors, StringComparison.Ordinal);
        Assert.Equal("", program.Output);
    }
}

/// <summary>Needs a network of its own, with data.</summary>
sealed class NetworkTheoryAttribute : TheoryAttribute
{
    public NetworkTheoryAttribute() => Skip = Surroundings.WithoutNetworks;
}
