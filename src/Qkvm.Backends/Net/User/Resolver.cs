using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>The host's nameserver: the first of /etc/resolv.conf, which may change while the guest runs.
/// resolv.conf(5).</summary>
sealed class Resolver(TimeProvider clock, string file)
{
    static readonly TimeSpan s_validity = TimeSpan.FromSeconds(1);

    IpAddress _address = IpAddress.Loopback4;
    long _readAt;
    DateTime _written;

    /// <summary>This host itself where no nameserver is named, as its own resolver has it.</summary>
    public IpAddress Address
    {
        get
        {
            if (_readAt != 0 && clock.GetElapsedTime(_readAt) < s_validity) return _address;
            _readAt = clock.GetTimestamp();
            DateTime written = File.GetLastWriteTimeUtc(file); // of no file: long ago
            if (written == _written) return _address;
            _written = written;
            return _address = Read();
        }
    }

    /// <summary>Some nameserver is one of IPv6.</summary>
    public bool HasIpv6 => Nameservers().Any(a => !a.IsV4);

    IpAddress Read() => Nameservers().Append(IpAddress.Loopback4).First();

    List<IpAddress> Nameservers()
    {
        List<IpAddress> found = [];
        string[] lines;
        try { lines = File.ReadAllLines(file); }
        catch (IOException) { return found; }
        catch (UnauthorizedAccessException) { return found; }
        foreach (string line in lines)
        {
            string[] words = line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
            // One with an interface's name cannot be reached by its address alone.
            if (words is ["nameserver", var text, ..] && !text.Contains('%')
                && IpAddress.TryParse(text, out IpAddress address)) found.Add(address);
        }
        return found;
    }
}
