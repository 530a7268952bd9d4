using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;

namespace Qkvm.Backends.Tests.Char;

public class MuxCharTests
{
    readonly Terminal _terminal = new();
    readonly Reader _serial = new(), _monitor = new();
    readonly MuxChar _mux;
    readonly ICharBackend[] _ports;
    int _quits, _syncs;

    public MuxCharTests()
    {
        _mux = new MuxChar(_terminal, () => _quits++, () => _syncs++);
        _ports = [_mux.AddPort(), _mux.AddPort()];
        _ports[0].Connect(_serial);
        _ports[1].Connect(_monitor);
    }

    [Fact]
    public void The_first_frontend_has_the_keyboard()
    {
        Type("abc");
        Assert.Equal(("abc", ""), (_serial.Text, _monitor.Text));
    }

    [Fact]
    public void Ctrl_a_c_switches_and_tells_both()
    {
        Type("a\u0001cb\u0001cd");
        Assert.Equal(("ad", "b"), (_serial.Text, _monitor.Text));
        Assert.Equal([CharEvent.Opened, CharEvent.MuxIn, CharEvent.MuxOut, CharEvent.MuxIn], _serial.Events);
    }

    [Fact]
    public void Ctrl_a_twice_sends_one()
    {
        Type("\u0001\u0001");
        Assert.Equal("\u0001", _serial.Text);
    }

    [Fact]
    public void The_other_keys_act()
    {
        Type("\u0001x\u0001s\u0001b\u0001h");
        Assert.Equal((1, 1), (_quits, _syncs));
        Assert.Contains(CharEvent.Break, _serial.Events);
        Assert.Equal("""
            qkvm: Terminated

            C-a h    print this help
            C-a x    exit emulator
            C-a s    save disk data back to file (if -snapshot)
            C-a t    toggle console timestamps
            C-a b    send break (magic sysrq)
            C-a c    switch between console and monitor
            C-a C-a  sends C-a

            """.ReplaceLineEndings("\n\r"), _terminal.Screen);
        Assert.Equal("", _serial.Text);
    }

    [Fact]
    public void Keys_wait_for_a_frontend_without_room_and_the_escape_still_works()
    {
        _serial.RoomLeft = 0;
        Type("abc\u0001x");
        Assert.Equal(("", 1), (_serial.Text, _quits));
        _serial.RoomLeft = 100;
        _ports[0].AcceptInput();
        Assert.Equal("abc", _serial.Text);
    }

    [Fact]
    public void A_frontend_that_never_reads_bounds_the_queue()
    {
        _serial.RoomLeft = 0;
        Type(new string('x', 100_000) + "\u0001x");
        _serial.RoomLeft = 100_000;
        _ports[0].AcceptInput();
        Assert.Equal((1024, 1), (_serial.Text.Length, _quits));
    }

    [Fact]
    public void A_frontend_that_goes_leaves_the_keyboard_to_the_others_and_its_place_free()
    {
        _ports[1].Connect(null);
        Type("a\u0001cb");
        Assert.Equal("ab", _serial.Text);
        var next = new Reader();
        _mux.AddPort().Connect(next);
        Type("\u0001cd");
        Assert.Equal(("ab", "d"), (_serial.Text, next.Text));
        _ports[0].Connect(null);
        Type("e");
        Assert.Equal("de", next.Text);
    }

    [Fact]
    public void Without_frontends_nothing_is_typed_anywhere()
    {
        foreach (ICharBackend port in _ports) port.Connect(null);
        Assert.Equal(0, _terminal.Frontend!.Room);
        Type("a\u0001c\u0001b\u0001x");
        Assert.Equal(1, _quits);
        var next = new Reader();
        _mux.AddPort().Connect(next);
        Type("z");
        Assert.Equal("z", next.Text);
    }

    void Type(string keys) => _terminal.Frontend!.Receive(Encoding.Latin1.GetBytes(keys));

    sealed class Terminal : ICharBackend
    {
        readonly StringBuilder _screen = new();
        public ICharFrontend? Frontend { get; private set; }
        public string Screen => _screen.ToString();
        public string Id => "terminal";
        public string Description => "terminal";
        public bool IsOpen => true;
        public void Connect(ICharFrontend? frontend) => Frontend = frontend;
        public void AcceptInput() { }

        public int Write(ReadOnlySpan<byte> data)
        {
            _screen.Append(Encoding.Latin1.GetString(data));
            return data.Length;
        }
    }

    sealed class Reader : ICharFrontend
    {
        public int RoomLeft { get; set; } = 1000;
        public string Text { get; private set; } = "";
        public List<CharEvent> Events { get; } = [];
        public int Room => RoomLeft;
        public void Receive(ReadOnlySpan<byte> data) => Text += Encoding.Latin1.GetString(data);
        public void Event(CharEvent what) => Events.Add(what);
    }
}
