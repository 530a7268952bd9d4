using System.ComponentModel;
using System.Diagnostics;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>-netdev passt: a cable to passt(1), which this starts and which ends with it: the host's own addresses for
/// the guest, without root.</summary>
public static class PasstNet
{
    const int Patience = 10_000, PollInterval = 2;                 // milliseconds

    // The names of passt's own options.
    static readonly string[] Values =
    [
        "mtu", "address", "netmask", "mac-addr", "gateway", "interface", "outbound", "outbound-if4", "outbound-if6",
        "dns", "fqdn", "map-host-loopback", "map-guest-addr", "dns-forward", "dns-host",
    ];
    static readonly string[] Lists = ["search", "tcp-ports", "udp-ports"];
    static readonly string[] Parts = ["tcp", "udp", "icmp", "dhcp", "ndp", "dhcpv6", "ra", "dhcp-dns", "dhcp-search"];

    public static readonly NetModel Model = new("passt",
        [
            Property.Text("path", "passt", "the program"), Property.Bool("quiet", true, "it says errors alone"),
            Property.Missing("vhost-user", "off", "use -netdev vhost-user with passt --vhost-user"),
            .. Values.Select(static name => Property.Text(Ours(name), help: $"passt --{name}")),
            .. Lists.Select(static name => Property.Texts(name, $"passt --{name}")),
            .. Parts.Select(static name => Property.Bool(name, true, $"off: passt --no-{name}")),
            Property.Bool("ipv4", true, "off: passt --ipv6-only"),
            Property.Bool("ipv6", true, "off: passt --ipv4-only"),
            Property.Bool("freebind", false, "passt --freebind"),
            Property.Texts("param", "an argument as it is"),
        ],
        static (given, host) => Start(given, host)) { Description = "the host's own network, by passt" };

    static string Ours(string name) => name == "mac-addr" ? "mac" : name;

    static StreamNet Start(Properties given, IBackendHost host)
    {
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        int fd = ours.InputFd;                                     // the cable's from here on
        // passt writes its number when it is ready; as root it becomes nobody first, who must find the file.
        string folder = Directory.CreateTempSubdirectory("qkvm-passt").FullName, pid = Path.Combine(folder, "pid");
        try
        {
            const UnixFileMode findable = (UnixFileMode)0b111_001_001, writable = (UnixFileMode)0b110_110_110;
            File.WriteAllBytes(pid, []);
            HostFile.SetMode(folder, findable);
            HostFile.SetMode(pid, writable);
            Await(given, host, pid, new ProcessStartInfo(given.Required("path"), Arguments(given, theirs, pid))
                { UseShellExecute = false, RedirectStandardError = true });
        }
        catch
        {
            ours.Dispose();
            throw;
        }
        finally
        {
            Libc.close(theirs);
            Directory.Delete(folder, recursive: true);
        }
        return new StreamNet(given.Owner, new StreamNetOptions(given.Required("id"), Model.Name,
            new DescriptorAddress(fd), IsServer: false), host.Loop);
    }

    static IEnumerable<string> Arguments(Properties given, int socket, string pid) =>
    [
        "--foreground", "--fd", $"{socket}", "--pid", pid, .. given.Bool("quiet") ? ["--quiet"] : Array.Empty<string>(),
        .. Values.Where(name => given.Has(Ours(name))).SelectMany(name => new[] { $"--{name}",
            given.Required(Ours(name)) }),
        .. Lists.SelectMany(name => given.Texts(name).SelectMany(text => new[] { $"--{name}", text })),
        .. Parts.Where(name => !given.Bool(name)).Select(name => $"--no-{name}"),
        .. given.Bool("ipv4") ? Array.Empty<string>() : ["--ipv6-only"],
        .. given.Bool("ipv6") ? Array.Empty<string>() : ["--ipv4-only"],
        .. given.Bool("freebind") ? ["--freebind"] : Array.Empty<string>(), .. given.Texts("param"),
    ];

    /// <summary>Waits until passt works, or has said why not. What it says later goes to stderr.</summary>
    static void Await(Properties given, IBackendHost host, string pid, ProcessStartInfo start)
    {
        Process passt;
        try { passt = Programs.Start(start); }
        catch (Win32Exception e)
        {
            throw given.Error($"{start.FileName} could not be started: {Programs.Reason(e)}; install passt, or give "
                + "path=PATH; -netdev user needs no other program", e);
        }
        var said = new List<string>();
        bool isReady = false;
        passt.ErrorDataReceived += (_, line) =>
        {
            // Where there is no system log, each line comes twice.
            if (line.Data is not { Length: > 0 } text || text.Contains("to syslog")) return;
            lock (said)
                if (isReady) host.Warn($"passt: {text}");
                else said.Add(text);
        };
        passt.BeginErrorReadLine();
        for (int waited = 0; !passt.HasExited && new FileInfo(pid).Length == 0; waited += PollInterval)
        {
            if (waited > Patience)
            {
                passt.Kill();
                throw given.Error($"{start.FileName} does not become ready");
            }
            Thread.Sleep(PollInterval);
        }
        if (passt.HasExited)
        {
            passt.WaitForExit();                                   // for its last words
            throw given.Error($"{start.FileName} ended with status {passt.ExitCode}: {string.Join("; ", said)}");
        }
        lock (said) isReady = true;
    }
}
