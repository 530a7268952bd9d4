using System.ComponentModel;
using System.Diagnostics;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net;

/// <summary>A program, with root's rights as a rule, that opens a tap interface, puts it into a bridge and passes its
/// descriptor over a socket.</summary>
public static class BridgeHelper
{
    public const string DefaultPath = "/usr/lib/qemu/qemu-bridge-helper", DefaultBridge = "br0",
        AllowList = "/etc/qemu/bridge.conf";

    /// <returns>The descriptor.</returns>
    public static int Open(string owner, string helper, string bridge)
    {
        if (bridge.AsSpan().ContainsAny(" \t'\"\\$`;&|<>()"))
            throw new ConfigurationException($"{owner}: br={bridge}: an interface has no such name");
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        using (ours)
        {
            (int status, string said) = Run(owner, helper, theirs, bridge);
            Host.Libc.close(theirs);
            if (status == 0 && ours.Read(new byte[1]) > 0 && ours.TakeDescriptor() is >= 0 and var fd) return fd;
            throw new ConfigurationException($"{owner}: bridge helper failed: {helper} "
                + (status == 0 ? "passed no descriptor" : $"ended with status {status}")
                + $"{(said == "" ? "" : $": {said}")}{Advice(said, bridge)}");
        }
    }

    static string Advice(string said, string bridge) =>
        said.Contains("acl") ? $"; root allows the bridge by a line 'allow {bridge}' in {AllowList}"
        : said.Contains("Operation not permitted") ? $"; it needs root's rights: chmod u+s {DefaultPath}"
        : said.Contains("No such device") ? $"; there is no bridge {bridge}: ip link add {bridge} type bridge"
        : "";

    static (int Status, string Said) Run(string owner, string helper, int socket, string bridge)
    {
        // As QEMU has it: a helper with arguments of its own is the shell's to take apart.
        string arguments = $"--use-vnet --fd={socket} --br={bridge}";
        ProcessStartInfo start = helper.AsSpan().ContainsAny(" \t")
            ? new("/bin/sh", ["-c", helper.Contains("--br=") ? $"{helper} --use-vnet --fd={socket}"
                : $"{helper} {arguments}"])
            : new(helper, arguments.Split(' '));
        (start.UseShellExecute, start.RedirectStandardError) = (false, true);
        try
        {
            using Process process = Host.Programs.Start(start);
            string said = process.StandardError.ReadToEnd().Trim().ReplaceLineEndings(" ");
            process.WaitForExit();
            return (process.ExitCode, said);
        }
        catch (Win32Exception e)
        {
            Host.Libc.close(socket);
            throw new ConfigurationException($"{owner}: bridge helper {helper} could not be started: "
                + $"{Host.Programs.Reason(e)}; "
                + "install it (Debian: qemu-system-common), or give helper=PATH", e);
        }
    }
}
