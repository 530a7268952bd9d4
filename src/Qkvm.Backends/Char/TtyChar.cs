using Qkvm.Core.Char;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>A character device of the host by its path: a serial line, a terminal, /dev/null.</summary>
/// <remarks>A terminal is made raw and put back in the end; speed and format stay as the host has set them.</remarks>
public sealed class TtyChar : StreamChar, IDisposable
{
    public static readonly CharModel Model = new("serial", [Property.Text("path")],
        static (properties, host) => new TtyChar(properties.Required("id"), properties.Required("path"), host.Loop,
            properties.Owner))
    {
        Aliases = ["tty"],
        Description = "a character device of the host, such as /dev/ttyS0",
    };

    readonly int _fd;
    readonly TerminalMode? _terminal;

    public TtyChar(string id, string path, EventLoop loop, string owner) : base(id, loop)
    {
        _fd = Libc.open(path, Libc.ORdWr | Libc.ONonBlock | Libc.ONoCtty | Libc.OCloexec, 0);
        if (_fd < 0) throw new ConfigurationException($"{owner}: cannot open '{path}': {Libc.Message(Libc.Errno)}");
        _terminal = TerminalMode.MakeRaw(_fd, signals: false);
        // A device that epoll knows no readiness of, such as /dev/null, is never read.
        Open(new DescriptorTransport(_terminal == null ? -1 : _fd, _fd, endsOnlyInput: false));
    }

    public override string Description => Model.Name;

    protected override void OnHangUp() { }

    public void Dispose()
    {
        Detach();
        _terminal?.Restore();
        Libc.close(_fd);
    }
}
