using System.Diagnostics.CodeAnalysis;
using Qkvm.Core.Char;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>Where guestfwd= leads: addresses of the guest's network behind which a character device or a program
/// is.</summary>
public sealed class GuestTargets : IDisposable
{
    readonly Dictionary<IpEndpoint, GuestCharTarget> _devices = [];
    readonly Dictionary<IpEndpoint, string> _commands = [];
    readonly EventLoop _loop;
    readonly Action<string> _release;

    /// <param name="loop">Of the devices.</param>
    /// <param name="take">Finds a device by its id and takes it.</param>
    /// <param name="release">Gives it back.</param>
    public GuestTargets(IReadOnlyList<GuestForward> rules, EventLoop loop, Func<string, ICharBackend> take,
        Action<string> release)
    {
        (_loop, _release) = (loop, release);
        try
        {
            foreach (GuestForward rule in rules)
                if (rule.Command is { } command) _commands[rule.At] = command;
                else _devices[rule.At] = new GuestCharTarget(rule.Chardev!, take(rule.Chardev!), loop);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The host's end of a new connection to such an address; null if it is none. From any thread.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "both ends are given away")]
    internal RelaySocket? TryConnect(IpEndpoint at)
    {
        bool isDevice = _devices.TryGetValue(at, out GuestCharTarget? device);
        string? command = null;
        if (!isDevice && !_commands.TryGetValue(at, out command)) return null;
        if (RelaySocket.Pair() is not var (first, second)) return null;
        if (isDevice) _loop.Post(() => device!.Attach(second));
        else GuestCommand.Start(command!, second);
        return first;
    }

    /// <summary>On the devices' loop.</summary>
    public void Dispose()
    {
        foreach (GuestCharTarget device in _devices.Values)
        {
            device.Dispose();
            _release(device.Id);
        }
        _devices.Clear();
    }
}
