using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Backends.Net;

/// <summary>Opens tap interfaces, and tells users what to do where the host refuses.</summary>
static class TapOpening
{
    public static TapDevice Open(string owner, string? name)
    {
        if (name is { Length: 0 or > TapDevice.NameLength })
            throw new ConfigurationException($"{owner}: ifname: '{name}' must have 1 to {TapDevice.NameLength} " +
                "characters");
        int fd = TapDevice.OpenClone(out int errno);
        if (fd < 0)
            throw new ConfigurationException($"{owner}: could not open {TapDevice.CloneDevice}: " +
                $"{Libc.Message(errno)}{OpenAdvice(errno)}");
        if (TapDevice.Configure(fd, name ?? "tap%d", out errno) is { } tap) return tap;
        Libc.close(fd);
        throw new ConfigurationException(
            $"{owner}: could not configure {TapDevice.CloneDevice} ({name ?? "tap%d"}): " +
                $"{Libc.Message(errno)}{ConfigureAdvice(errno, name)}");
    }

    public static TapDevice Inherit(string owner, int fd) => TapDevice.Inherit(fd, out int errno)
        ?? throw new ConfigurationException($"{owner}: fd={fd} is no tap interface: {Libc.Message(errno)}; "
            + "the program that starts this one must open it and let it be inherited");

    static string OpenAdvice(int errno) => errno switch
    {
        Libc.EPerm or Libc.EAccess => $"; run as root, or give yourself access to {TapDevice.CloneDevice}",
        Libc.ENoEnt => "; create it: mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
        Libc.ENoDev or Libc.ENxIo => "; load the kernel's driver: modprobe tun",
        _ => "",
    };

    static string ConfigureAdvice(int errno, string? name) => errno switch
    {
        Libc.EPerm => "; run as root, or let root create the interface for you: "
            + $"ip tuntap add dev {name ?? "tap0"} mode tap user $USER, then give " +
            $"ifname={name ?? "tap0"},script=no,downscript=no",
        Libc.EBusy => $"; another program uses {name}: stop it, or choose another ifname=",
        Libc.EInval => $"; {name} exists and is no tap interface, or has several queues: choose another ifname=",
        Libc.ENoDev => "; load the kernel's driver: modprobe tun",
        _ => "",
    };
}
