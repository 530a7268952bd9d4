using System.Text;
using Qkvm.Control;
using Qkvm.Control.Gdb;
using Qkvm.Core.Char;

namespace Qkvm.Tests.Control;

/// <summary>A debugger on a character backend of its own, to a bench's machine.</summary>
sealed class GdbClient : ICharBackend
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    readonly ControlBench _bench;
    readonly StringBuilder _received = new();                      // guards itself

    public GdbClient(ControlBench bench)
    {
        _bench = bench;
        var context = new CommandContext(bench.Machine, bench.Host, CommandCatalogue.Standard);
        Session = bench.OnLoop(() => new GdbSession(this, context));
    }

    public GdbSession Session { get; }
    public ICharFrontend? Frontend { get; private set; }
    public string Id => "gdb";
    public string Description => "client";
    public bool IsOpen => true;

    /// <summary>Takes nothing any more.</summary>
    public bool Stalls { get; set; }

    public int Room => _bench.OnLoop(() => Frontend!.Room);

    /// <summary>What came and was not asked for yet, acknowledgements included.</summary>
    public string Rest
    {
        get { lock (_received) return _received.ToString(); }
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        if (Stalls) return 0;
        lock (_received) _received.Append(Encoding.Latin1.GetString(data));
        return data.Length;
    }

    public void Connect(ICharFrontend? frontend)
    {
        Frontend = frontend;
        frontend?.Event(CharEvent.Opened);
    }

    public void AcceptInput() { }

    public void Tell(CharEvent what) => _bench.OnLoop(() => Frontend!.Event(what));

    public void SendRaw(string bytes) => _bench.OnLoop(() => Frontend!.Receive(Encoding.Latin1.GetBytes(bytes)));

    public void Send(string packet) => SendRaw($"${packet}#{packet.Sum(c => (byte)c) & 0xFF:x2}");

    /// <summary>The data of the next packet, which is to be whole and right.</summary>
    public string Next()
    {
        string packet = "";
        bool comes = SpinWait.SpinUntil(() =>
        {
            lock (_received)
            {
                string all = _received.ToString();
                int start = all.IndexOf('$'), end = start < 0 ? -1 : all.IndexOf('#', start);
                if (end < 0 || end + 2 >= all.Length) return false;
                packet = all[(start + 1)..end];
                Assert.Equal($"{packet.Sum(c => (byte)c) & 0xFF:x2}", all[(end + 1)..(end + 3)]);
                _received.Remove(0, end + 3);
                return true;
            }
        }, Patience);
        Assert.True(comes, "no packet comes");
        return packet;
    }

    public string Ask(string packet)
    {
        Send(packet);
        return Next();
    }
}
