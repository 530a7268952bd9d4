using System.Text;
using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>Several frontends on one backend, one of which has the keyboard: -nographic's ctrl-a.</summary>
/// <param name="quit">ctrl-a x.</param>
/// <param name="sync">ctrl-a s: flush the disks.</param>
public sealed class MuxChar(ICharBackend inner, Action quit, Action sync) : ICharFrontend
{
    const byte Escape = 1;                                         // ctrl-a
    const int HeldLimit = 4096;                                    // typed ahead of a frontend without room

    readonly List<Port> _ports = [];
    int _focus = -1;
    bool _escaped, _timestamps, _lineStart = true;
    DateTime _start;

    public string Id => inner.Id;

    /// <summary>More than the frontend's own: so the escape is heard while a guest does not listen.</summary>
    int ICharFrontend.Room => _focus < 0 ? 1 : HeldLimit - _ports[_focus].Held.Count;

    /// <summary>A further place to plug a frontend; the newest gets the keyboard first, as in QEMU the first does.</summary>
    public ICharBackend AddPort()
    {
        var port = new Port(this);
        _ports.Add(port);
        if (_ports.Count == 1)
        {
            inner.Connect(this);
            _focus = 0;
        }
        return port;
    }

    void ICharFrontend.Receive(ReadOnlySpan<byte> data)
    {
        foreach (byte b in data)
        {
            if (_escaped) { _escaped = false; Command(b); }
            else if (b == Escape) _escaped = true;
            else Forward(b);
        }
    }

    void ICharFrontend.Event(CharEvent what)
    {
        foreach (Port port in _ports) port.Frontend?.Event(what);
    }

    void ICharFrontend.Writable()
    {
        foreach (Port port in _ports) port.Frontend?.Writable();
    }

    void Forward(byte b)
    {
        if (_focus < 0) return;
        _ports[_focus].Held.Enqueue(b);
        _ports[_focus].Deliver();
    }

    void Command(byte key)
    {
        switch ((char)key)
        {
            case (char)Escape: Forward(Escape); break;
            case 'h' or '?': Say(Help); break;
            case 'x':
                Say("\r\nqkvm: terminated by ctrl-a x\r\n");
                quit();
                break;
            case 's': sync(); break;
            case 'b': _ports[_focus].Frontend?.Event(CharEvent.Break); break;
            case 'c': Focus((_focus + 1) % _ports.Count); break;
            case 't':
                _timestamps = !_timestamps;
                _start = DateTime.UtcNow;
                _lineStart = false;
                break;
        }
    }

    const string Help = "\r\nC-a h    print this help\r\nC-a x    exit emulator\r\nC-a s    save disk data back to file (if -snapshot)\r\n"
        + "C-a t    toggle console timestamps\r\nC-a b    send break (magic sysrq)\r\nC-a c    switch between console and monitor\r\n"
        + "C-a C-a  sends C-a\r\n";

    void Focus(int port)
    {
        if (port == _focus) return;
        _ports[_focus].Frontend?.Event(CharEvent.MuxOut);
        _focus = port;
        _ports[_focus].Frontend?.Event(CharEvent.MuxIn);
        inner.AcceptInput();
    }

    void Say(string text) => inner.Write(Encoding.ASCII.GetBytes(text));

    int Write(ReadOnlySpan<byte> data)
    {
        if (!_timestamps) return inner.Write(data);
        foreach (byte b in data)
        {
            if (_lineStart)
            {
                TimeSpan since = DateTime.UtcNow - _start;
                Say($"[{(int)since.TotalHours:00}:{since.Minutes:00}:{since.Seconds:00}.{since.Milliseconds:000}] ");
                _lineStart = false;
            }
            inner.Write([b]);
            if (b == '\n') _lineStart = true;
        }
        return data.Length;
    }

    sealed class Port(MuxChar mux) : ICharBackend
    {
        bool _delivering;

        public ICharFrontend? Frontend { get; private set; }

        /// <summary>Typed, in order, while the frontend had no room.</summary>
        public Queue<byte> Held { get; } = new();
        public string Id => mux.Id;
        public string Description => $"mux:{mux.Id}";
        public bool IsOpen => true;
        public int Write(ReadOnlySpan<byte> data) => mux.Write(data);

        public void AcceptInput()
        {
            Deliver();
            mux.AcceptInput();
        }

        public void Deliver()
        {
            if (_delivering) return;
            _delivering = true;
            while (Frontend is { Room: > 0 } frontend && Held.TryDequeue(out byte b)) frontend.Receive([b]);
            _delivering = false;
        }

        public void Connect(ICharFrontend? frontend)
        {
            Frontend = frontend;
            frontend?.Event(CharEvent.Opened);
            if (frontend != null && mux._focus >= 0 && mux._ports[mux._focus] == this) frontend.Event(CharEvent.MuxIn);
            AcceptInput();
        }
    }

    void AcceptInput() => inner.AcceptInput();
}
