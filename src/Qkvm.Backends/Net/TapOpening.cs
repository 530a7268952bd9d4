using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>Opens tap interfaces, and tells users what to do where the host refuses.</summary>
static class TapOpening
{
    /// <returns>One for each queue; none stays open when one cannot be had.</returns>
    public static TapDevice[] Open(string owner, TapOptions options)
    {
        if (options.InterfaceName is { Length: 0 or > TapDevice.NameLength } name)
            throw new ConfigurationException($"{owner}: ifname: '{name}' must have 1 to {TapDevice.NameLength} " +
                "characters");
        var taps = new List<TapDevice>();
        try
        {
            if (options.Helper is { } helper)
                taps.Add(Inherit(owner, BridgeHelper.Open(owner, helper, options.Bridge), "the bridge helper's"));
            else if (options.Fds is { } fds)
                foreach (int fd in fds) taps.Add(Inherit(owner, fd, $"fd={fd}"));
            else
                for (int i = 0; i < options.Queues; i++)
                    taps.Add(Open(owner, taps.FirstOrDefault()?.Name ?? options.InterfaceName, options.Queues > 1,
                        options.HasHeader != false));
            if (options.HasHeader == true && taps[0].HeaderLength == 0)
                throw new ConfigurationException($"{owner}: vnet_hdr=on requested, but the kernel's tap driver has no "
                    + "support for it; leave it out");
            if (options.SendBuffer > 0 && taps[0].LimitSending(options.SendBuffer) is not 0 and var errno)
                throw new ConfigurationException($"{owner}: sndbuf={options.SendBuffer}: {Libc.Message(errno)}");
            return [.. taps];
        }
        catch
        {
            foreach (TapDevice tap in taps) tap.Dispose();
            throw;
        }
    }

    static TapDevice Open(string owner, string? name, bool isOneOfSeveral, bool withHeader)
    {
        int fd = TapDevice.OpenClone(out int errno);
        if (fd < 0)
            throw new ConfigurationException($"{owner}: could not open {TapDevice.CloneDevice}: " +
                $"{Libc.Message(errno)}{OpenAdvice(errno)}");
        if (TapDevice.Configure(fd, name ?? "tap%d", withHeader, isOneOfSeveral, out errno) is { } tap) return tap;
        Libc.close(fd);
        throw new ConfigurationException(
            $"{owner}: could not configure {TapDevice.CloneDevice} ({name ?? "tap%d"}): " +
                $"{Libc.Message(errno)}{ConfigureAdvice(errno, name, isOneOfSeveral)}");
    }

    static TapDevice Inherit(string owner, int fd, string what) => TapDevice.Inherit(fd, out int errno)
        ?? throw new ConfigurationException($"{owner}: {what} is no tap interface: {Libc.Message(errno)}; "
            + "the program that starts this one must open it and let it be inherited");

    static string OpenAdvice(int errno) => errno switch
    {
        Libc.EPerm or Libc.EAccess => $"; run as root, or give yourself access to {TapDevice.CloneDevice}",
        Libc.ENoEnt => "; create it: mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
        Libc.ENoDev or Libc.ENxIo => "; load the kernel's driver: modprobe tun",
        _ => "",
    };

    static string ConfigureAdvice(int errno, string? name, bool isOneOfSeveral) => errno switch
    {
        Libc.EPerm => "; run as root, or let root create the interface for you: "
            + $"ip tuntap add dev {name ?? "tap0"} mode tap {(isOneOfSeveral ? "multi_queue " : "")}user $USER, " +
            $"then give ifname={name ?? "tap0"},script=no,downscript=no",
        Libc.EBusy => $"; another program uses {name}: stop it, or choose another ifname=",
        Libc.EInval => isOneOfSeveral
            ? $"; {name} exists and is no tap interface, or has one queue: choose another ifname=, or leave out queues="
            : $"; {name} exists and is no tap interface, or has several queues: choose another ifname=",
        Libc.E2Big => $"; {name} has fewer queues, or they are in use: give a smaller queues=",
        Libc.ENoDev => "; load the kernel's driver: modprobe tun",
        _ => "",
    };
}
