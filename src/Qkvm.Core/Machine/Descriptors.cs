using Qkvm.Host;

namespace Qkvm.Core.Machine;

/// <summary>Descriptors by name (getfd), each until somebody takes it. Under the machine lock.</summary>
public sealed class Descriptors : IDisposable
{
    readonly Dictionary<string, int> _named = new(StringComparer.Ordinal);

    /// <summary>Keeps a descriptor under a name; one of that name is closed.</summary>
    public void Keep(string name, int fd)
    {
        Close(name);
        _named[name] = fd;
    }

    /// <summary>False where there is none of that name.</summary>
    public bool Close(string name)
    {
        if (!_named.Remove(name, out int fd)) return false;
        Libc.close(fd);
        return true;
    }

    /// <summary>What fd= says: the number of an inherited descriptor, or a name, which is free again then.</summary>
    /// <exception cref="ConfigurationException">There is none of that name.</exception>
    public int Take(string text, string owner)
    {
        if (text.Length > 0 && char.IsAsciiDigit(text[0]))
            return int.TryParse(text, out int number) ? number
                : throw new ConfigurationException($"{owner}: fd={text} is no number of a descriptor");
        return _named.Remove(text, out int fd) ? fd
            : throw new ConfigurationException($"{owner}: File descriptor named '{text}' has not been found");
    }

    public void Dispose()
    {
        foreach (int fd in _named.Values) Libc.close(fd);
        _named.Clear();
    }
}
