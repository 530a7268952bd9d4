using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>Monitors and gdb ask nobody for a password: who can be reached from other hosts is told so.</summary>
public static class Exposure
{
    /// <param name="chardev">The id of what a client that may do anything connects to.</param>
    public static void Warn(IBackendHost host, string chardev, string owner)
    {
        if (host.Backends.Chardevs.GetValueOrDefault(chardev)?.Stream.ExposedAt is { } place)
            host.Warn($"{owner}: listens on {place}: anybody who reaches this host can control the machine; use "
                + "127.0.0.1 or a unix socket");
    }
}
