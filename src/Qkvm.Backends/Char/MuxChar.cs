using System.Text;
using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>Several frontends on one backend, one of which has the keyboard: -nographic's ctrl-a.</summary>
/// <param name="quit">ctrl-a x.</param>
/// <param name="escape">The byte that commands begin with: 1 is ctrl-a.</param>
/// <param name="sync">ctrl-a s: flush the disks.</param>
public sealed class MuxChar(ICharBackend inner, Action quit, Action sync, byte escape = MuxChar.CtrlA) : ICharFrontend
{
    public const byte CtrlA = 1;

    readonly List<Port> _ports = [];
    int _focus = -1;
    bool _escaped, _timestamps, _lineStart = true;
    DateTime _start;

    public string Id => inner.Id;

    /// <summary>Escape sequences must get through even when the guest reads nothing: keys wait in the ports' own
    /// queues.</summary>
    int ICharFrontend.Room => _focus < 0 ? 0 : Math.Max(1, _ports[_focus].QueueRoom);

    /// <summary>A further place to plug a frontend; the newest gets the keyboard first, as in QEMU the first
    /// does.</summary>
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

    /// <summary>Its frontend has gone; who has the keyboard keeps it.</summary>
    void Remove(Port port)
    {
        int index = _ports.IndexOf(port);
        if (index < 0) return;
        _ports.RemoveAt(index);
        if (index > _focus) return;
        bool hadFocus = index == _focus;
        _focus--;
        if (!hadFocus || _ports.Count == 0) return;
        _focus = Math.Max(_focus, 0);
        _ports[_focus].Frontend?.Event(CharEvent.MuxIn);
    }

    void ICharFrontend.Receive(ReadOnlySpan<byte> data)
    {
        foreach (byte b in data)
        {
            if (_escaped) { _escaped = false; Command(b); }
            else if (b == escape) _escaped = true;
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
        if (_focus >= 0) _ports[_focus].Enqueue(b);
    }

    void Command(byte key)
    {
        if (key == escape)
        {
            Forward(key);
            return;
        }
        switch ((char)key)
        {
            case 'h' or '?': Say(Help); break;
            case 'x':
                Say("qkvm: Terminated\n\r");
                quit();
                break;
            case 's': sync(); break;
            case 'b' when _focus >= 0: _ports[_focus].Frontend?.Event(CharEvent.Break); break;
            case 'c' when _focus >= 0: Focus((_focus + 1) % _ports.Count); break;
            case 't':
                _timestamps = !_timestamps;
                _start = DateTime.UtcNow;
                _lineStart = false;
                break;
        }
    }

    string Help
    {
        get
        {
            string key = escape is > 0 and < 27 ? $"C-{(char)('a' + escape - 1)}" : $"{(char)escape}";
            string[] lines = ["", $"{key} h    print this help", $"{key} x    exit emulator",
                $"{key} s    save disk data back to file (if -snapshot)", $"{key} t    toggle console timestamps",
                $"{key} b    send break (magic sysrq)", $"{key} c    switch between console and monitor",
                $"{key} {key}  sends {key}"];
            return string.Concat(lines.Select(line => $"{line}\n\r"));
        }
    }

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
        // a pasted line; what exceeds it is lost, as on a real line
        const int QueueSize = 1024;

        readonly Queue<byte> _waiting = new();

        public ICharFrontend? Frontend { get; private set; }
        public int QueueRoom => QueueSize - _waiting.Count;

        public void Enqueue(byte b)
        {
            if (QueueRoom > 0) _waiting.Enqueue(b);
            Deliver();
        }

        void Deliver()
        {
            while (_waiting.Count > 0 && Frontend is { Room: > 0 } frontend) frontend.Receive([_waiting.Dequeue()]);
        }
        public string Id => mux.Id;
        public (ushort Columns, ushort Rows)? WindowSize => mux.WindowSize;
        public string Description => "mux";
        public bool IsOpen => true;
        public int Write(ReadOnlySpan<byte> data) => mux.Write(data);

        public void AcceptInput()
        {
            Deliver();
            mux.AcceptInput();
        }

        public void Connect(ICharFrontend? frontend)
        {
            Frontend = frontend;
            if (frontend == null) mux.Remove(this);
            frontend?.Event(CharEvent.Opened);
            if (frontend != null && mux._focus >= 0 && mux._ports[mux._focus] == this) frontend.Event(CharEvent.MuxIn);
            mux.AcceptInput();
        }
    }

    (ushort Columns, ushort Rows)? WindowSize => inner.WindowSize;

    void AcceptInput() => inner.AcceptInput();
}
