using Qkvm.Backends.Net;
using Qkvm.Host;

namespace Qkvm.Doctor;

/// <summary>How guests reach others. The user network needs nothing of the host.</summary>
static class NetworkChecks
{
    public static Finding Tap(HostView host)
    {
        if (!host.Exists(TapDevice.CloneDevice))
            return Finding.Missing($"no {TapDevice.CloneDevice}: no taps; the user network works (-nic user)",
                "sudo modprobe tun");
        if (host.TryOpen(host.At(TapDevice.CloneDevice)) is { } why)
            return Finding.Missing($"{TapDevice.CloneDevice}: {why}", $"sudo chmod 666 {TapDevice.CloneDevice}");
        return host.IsRoot ? Finding.Good($"-netdev tap makes interfaces; {Script(host)}")
            : Finding.Fair("root alone makes taps; one that root makes for you works: -netdev tap,ifname=tap0,"
                + "script=no,downscript=no", "sudo ip tuntap add dev tap0 mode tap user $USER");
    }

    static string Script(HostView host)
    {
        const string script = "/etc/qemu-ifup";
        return host.Exists(script) ? $"{script} wires them" : $"there is no {script}: give script=no";
    }

    public static Finding Bridge(HostView host)
    {
        string helper = BridgeHelper.DefaultPath, list = BridgeHelper.AllowList;
        string bridge = Bridges(host).FirstOrDefault(BridgeHelper.DefaultBridge);
        if (!host.Exists(helper))
            return Finding.Fair("no helper for -netdev bridge; -netdev tap as root does the same",
                "sudo apt-get install qemu-system-common");
        if (!host.IsRoot && HostFile.TryStatus(host.At(helper), out FileStatus status, out _)
            && (status.Mode & (uint)UnixFileMode.SetUser) == 0)
            return Finding.Fair($"{helper} has not root's rights", $"sudo chmod u+s {helper}");
        string[] allowed = [.. (host.Read(list) ?? "").Split('\n').Select(line => line.Trim())
            .Where(line => line.StartsWith("allow ", StringComparison.Ordinal))];
        if (allowed.Length == 0)
            return Finding.Fair($"{list} allows no bridge", $"echo 'allow {bridge}' | sudo tee -a {list}");
        return Bridges(host).Any() ? Finding.Good($"-netdev bridge,br={bridge} works without root: {allowed[0]}")
            : Finding.Fair("there is no bridge", $"sudo ip link add {bridge} type bridge && sudo ip link set {bridge} "
                + "up");
    }

    static IEnumerable<string> Bridges(HostView host)
    {
        string all = host.At("/sys/class/net");
        return !Directory.Exists(all) ? [] : Directory.GetFileSystemEntries(all)
            .Where(one => Directory.Exists(Path.Join(one, "bridge"))).Select(Path.GetFileName).Order()!;
    }

    public static Finding Vsock(HostView host)
    {
        const string device = "/dev/vhost-vsock";
        if (!host.Exists(device)) return Finding.Fair($"no {device}: sockets between host and guest need a program "
            + "(vhost-user-vsock-pci)", "sudo modprobe vhost_vsock");
        return host.TryOpen(host.At(device)) is { } why ? Finding.Fair($"{device}: {why}", $"sudo chmod 666 {device}")
            : Finding.Good("sockets between host and guest: -device vhost-vsock-pci,guest-cid=3");
    }
}
