using Qkvm.Core.Machine;

namespace Qkvm.Control.Gdb;

/// <summary>Where debuggers are awaited: what -gdb, -s and `gdbserver` choose. One at a time.</summary>
/// <param name="makeContext">For what `monitor` commands of a session work with.</param>
public sealed class GdbServer(IBackendHost host, Func<CommandContext> makeContext) : IDisposable
{
    public const string DefaultDevice = "tcp::1234", None = "none", ChardevId = "gdb";

    string? _chardev;
    GdbSession? _session;

    /// <summary>The character device that is meant: over TCP it listens and lets the machine start, whatever was
    /// written.</summary>
    public static string Complete(string device) =>
        device.StartsWith("tcp:", StringComparison.Ordinal) ? $"{device},wait=off,nodelay=on,server=on" : device;

    /// <summary>Awaits debuggers on a character device that exists.</summary>
    /// <exception cref="ConfigurationException">There is none, or another uses it.</exception>
    public void Open(string chardev, string owner)
    {
        CommandContext context = makeContext();
        if (context.Machine.Cpus.Count == 0)
            throw new ConfigurationException($"{owner}: a debugger is of no use to a machine without a CPU");
        _session = new GdbSession(host.Backends.TakeChardev(chardev, owner), context);
        Exposure.Warn(host, chardev, owner);
        _chardev = chardev;
    }

    /// <summary>Makes the device, in place of what was there; "none" makes none.</summary>
    /// <exception cref="ConfigurationException">It cannot be had.</exception>
    public void Open(string device)
    {
        Close();
        if (device == None) return;
        string owner = $"gdbserver {device}";
        Open(host.AddCharacter(Complete(device), ChardevId, owner), owner);
    }

    public void TellExit(int code) => _session?.TellExit(code);

    public void Dispose() => _session?.Dispose();

    void Close()
    {
        if (_session == null) return;
        _session.Close();
        _session = null;
        host.Backends.ReleaseChardev(_chardev!);
        if (_chardev == ChardevId) host.RemoveChardev(ChardevId);
    }
}
