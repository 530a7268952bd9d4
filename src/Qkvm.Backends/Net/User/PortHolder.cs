using System.Globalization;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Who holds a port of this host, as far as /proc tells. proc(5).</summary>
static class PortHolder
{
    /// <summary>What to do about a port that could not be listened on: "; …" or nothing.</summary>
    public static string Advice(HostForward rule, int errno) => errno switch
    {
        Libc.EAddrInUse when rule.Kind == ForwardKind.Unix => "; another program listens there, or left the file: "
            + "remove it or choose another path",
        Libc.EAddrInUse => $"; {Holder(rule) ?? "another program"} uses the port: choose another one, or 0 for any",
        Libc.EAccess => "; ports below net.ipv4.ip_unprivileged_port_start need root: choose one from 1024 on",
        Libc.EAddrNotAvail => $"; {rule.Host.Address} is no address of this host",
        _ => "",
    };

    static string? Holder(HostForward rule)
    {
        string table = rule.Kind == ForwardKind.Tcp ? "/proc/net/tcp" : "/proc/net/udp";
        try
        {
            foreach (string file in (string[])[table, table + "6"])
                if (File.Exists(file) && Inode(file, rule.Host.Port) is { } inode && Process(inode) is { } found)
                    return found;
        }
        catch (IOException) { }
        catch (UnauthorizedAccessException) { }
        return null;
    }

    /// <summary>sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …</summary>
    static string? Inode(string file, ushort port)
    {
        const string listening = "0A", closed = "07";              // the latter is what unconnected UDP has
        string suffix = ":" + port.ToString("X4", CultureInfo.InvariantCulture);
        foreach (string line in File.ReadLines(file).Skip(1))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length > 9 && fields[1].EndsWith(suffix, StringComparison.Ordinal)
                && fields[3] is listening or closed) return fields[9];
        }
        return null;
    }

    static string? Process(string inode)
    {
        string wanted = $"socket:[{inode}]";
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), out int pid)) continue;
            try
            {
                foreach (string fd in Directory.EnumerateFiles(folder + "/fd"))
                    if (new FileInfo(fd).LinkTarget == wanted)
                        return $"{File.ReadAllText(folder + "/comm").Trim()} (process {pid})";
            }
            catch (IOException) { }                                // it ended meanwhile
            catch (UnauthorizedAccessException) { }                // another user's
        }
        return null;
    }
}
