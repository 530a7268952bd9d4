using Qkvm.Core.Char;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>A pseudo terminal that others open by its path.</summary>
public sealed class PtyChar : StreamChar, IDisposable
{
    public static readonly CharModel Model = new("pty", [], static (properties, host) =>
    {
        var pty = new PtyChar(properties.Required("id"), host.Loop);
        host.Print($"char device redirected to {pty.SlavePath} (label {pty.Id})");
        return pty;
    }) { Description = "a pseudo terminal" };

    static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(1);

    readonly int _master;
    readonly Timer _look;

    public PtyChar(string id, EventLoop loop) : base(id, loop)
    {
        (_master, SlavePath) = TerminalMode.OpenPseudoTerminal();
        // A master whose slave is closed reports a hang-up without pause: so it is left alone, and looked at each
        // second.
        _look = new Timer(_ => loop.Post(() => { if (!IsOpen) Open(); }));
        Open();
    }

    public string SlavePath { get; }
    public override string Description => $"pty:{SlavePath}";
    protected override void OnHangUp() => _look.Change(LookAgain, Timeout.InfiniteTimeSpan);

    public void Dispose()
    {
        _look.Dispose();
        Detach();
        Libc.close(_master);
    }

    void Open() => Open(new DescriptorTransport(_master, _master, endsOnlyInput: false));
}
