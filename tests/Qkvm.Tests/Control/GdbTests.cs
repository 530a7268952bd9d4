using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>Dialogs of GDB's remote protocol, answered as QEMU 7.2 does, on vCPUs that execute nothing.</summary>
public sealed class GdbTests : IDisposable
{
    readonly ControlBench _bench = new();
    readonly GdbClient _client;

    public GdbTests() => _client = new GdbClient(_bench);

    public void Dispose() => _bench.Dispose();

    RunState State => _bench.OnLoop(() => _bench.Machine.State);

    static string Hex(string text) => Convert.ToHexStringLower(Encoding.ASCII.GetBytes(text));

    [Theory]
    [InlineData("?", "T05thread:01;")]
    [InlineData("!", "OK")]
    [InlineData("qC", "QC01")]
    [InlineData("qfThreadInfo", "m01,02")]
    [InlineData("qsThreadInfo", "l")]
    [InlineData("qAttached", "1")]
    [InlineData("qAttached:1", "1")]
    [InlineData("vMustReplyEmpty", "")]
    [InlineData("vCont?", "vCont;c;C;s;S")]
    [InlineData("vCont;z", "")]
    [InlineData("vCont;s:9", "E22")]
    [InlineData("vCont", "E22")]
    [InlineData("Hg2", "OK")]
    [InlineData("Hc-1", "OK")]
    [InlineData("Hg9", "E22")]
    [InlineData("Hx1", "E22")]
    [InlineData("H", "E22")]
    [InlineData("T2", "OK")]
    [InlineData("T3", "E22")]
    [InlineData("qqemu.sstepbits", "ENABLE=1,NOIRQ=2,NOTIMER=4")]
    [InlineData("qqemu.sstep", "0x7")]
    [InlineData("Qqemu.sstep=1", "OK")]
    [InlineData("Qqemu.sstep=8", "E22")]
    [InlineData("qqemu.PhyMemMode", "0")]
    [InlineData("Qqemu.PhyMemMode:1", "OK")]
    [InlineData("qqemu.Supported", "sstepbits;sstep;PhyMemMode")]
    [InlineData("qXfer:features:read:nothing.xml:0,100", "E00")]
    [InlineData("qXfer:features:read:target.xml:ffffffff,100", "E22")]
    [InlineData("qXfer:features:read:target.xml:0,6", "m<?xml ")]
    [InlineData("m10000,4", "00000000")]
    [InlineData("m80000000,4", "E14")]
    [InlineData("m0,100000", "E22")]
    [InlineData("m0,0", "")]
    [InlineData("m", "E22")]
    [InlineData("mzz,1", "E22")]
    [InlineData("m11111111111111111,1", "E22")]
    [InlineData("M10000,2:1", "E22")]
    [InlineData("M10000,2:010203", "E22")]
    [InlineData("X10000,2:a", "E22")]
    [InlineData("X", "E22")]
    [InlineData("p0", "0000000000000000")]
    [InlineData("p11", "00000000")]
    [InlineData("pff", "E14")]
    [InlineData("P0=zz", "E22")]
    [InlineData("P0", "E22")]
    [InlineData("P0=112233445566778899", "E22")]
    [InlineData("G1", "E22")]
    [InlineData("Z0,1000,1", "OK")]
    [InlineData("z0,1000,1", "E22")]
    [InlineData("Z5,1000,1", "")]
    [InlineData("Z0,1000", "E22")]
    [InlineData("Z2,1000,0", "E22")]
    [InlineData("Z2,1000,ffffffffffffffff", "E22")]
    [InlineData("Z", "E22")]
    [InlineData("Zx,1,1", "E22")]
    [InlineData("qRcmd,xy", "E22")]
    [InlineData("sxyz", "E22")]
    [InlineData("qOffsets", "")]
    [InlineData("QNonStop:1", "")]
    [InlineData("nonsense", "")]
    [InlineData("", "")]
    public void A_packet_gets_its_answer(string packet, string answer) => Assert.Equal(answer, _client.Ask(packet));

    [Fact]
    public void Features_are_agreed_on()
    {
        Assert.Equal("PacketSize=4000;qXfer:features:read+;vContSupported+;multiprocess+;QStartNoAckMode+;swbreak+;"
            + "hwbreak+", _client.Ask("qSupported:multiprocess+;swbreak+;xmlRegisters=i386"));
        Assert.Equal("T05thread:p01.01;", _client.Ask("?"));
        Assert.Equal("mp01.01,p01.02", _client.Ask("qfThreadInfo"));
        Assert.Equal(Hex("CPU#1 [halted ]"), _client.Ask("qThreadExtraInfo,p1.2"));
        Assert.Equal("E22", _client.Ask("qThreadExtraInfo,p1.3"));
    }

    [Fact]
    public void Packets_are_acknowledged_until_that_is_given_up()
    {
        _client.SendRaw("$qC#b4");
        Assert.Equal("+$QC01#f5", _client.Rest);
        Assert.Equal("QC01", _client.Next());
        _client.SendRaw("$qC#b5");
        Assert.Equal("-", _client.Rest);
        _client.SendRaw("-");                                      // the last packet again
        Assert.Equal("QC01", _client.Next());
        Assert.Equal("OK", _client.Ask("QStartNoAckMode"));
        _client.SendRaw("$qC#00-+");
        Assert.Equal("$QC01#f5", _client.Rest);
    }

    [Fact]
    public void The_whole_description_comes_in_parts()
    {
        var xml = new StringBuilder();
        string part;
        do
        {
            part = _client.Ask($"qXfer:features:read:target.xml:{xml.Length:x},7fb");
            xml.Append(part.AsSpan(1));
        }
        while (part[0] == 'm');
        Assert.Equal('l', part[0]);
        Assert.EndsWith("</target>\n", xml.ToString());
    }

    [Fact]
    public void Memory_is_written_and_read()
    {
        Assert.Equal("OK", _client.Ask("M10000,4:01020304"));
        Assert.Equal("OK", _client.Ask("X10004,4:a}\u0003}]b"));
        Assert.Equal("0102030461237d62", _client.Ask("m10000,8"));
        Assert.Equal(0x04030201ul, _bench.OnLoop(() => _bench.Machine.Board.Memory.Read(0x10000, 4)));
        Assert.Equal("OK", _client.Ask("X10000,0:"));
        // ROM too: that is where firmware is debugged.
        Assert.Equal("OK", _client.Ask("Mfffff000,2:cccc"));
        Assert.Equal("cccc", _client.Ask("mfffff000,2"));
        Assert.Equal("E14", _client.Ask("m7ffffffffffffff0,20"));
    }

    [Fact]
    public void Registers_are_written_and_read_on_the_thread_chosen()
    {
        Assert.Equal("OK", _client.Ask("P3=78563412"));
        Assert.Equal("7856341200000000", _client.Ask("p3"));
        Assert.Equal("OK", _client.Ask("Hg2"));
        Assert.Equal("0000000000000000", _client.Ask("p3"));
        Assert.Equal("OK", _client.Ask("Hg1"));
        string all = _client.Ask("g");
        Assert.Equal("78563412", all[48..56]);
        Assert.Equal("OK", _client.Ask("G" + all.Replace("78563412", "78563413", StringComparison.Ordinal)));
        Assert.Equal("7856341300000000", _client.Ask("p3"));
    }

    [Fact]
    public void A_command_of_the_monitor_prints_on_the_debugger()
    {
        Assert.Equal("O" + Hex("VM status: paused (prelaunch)\n"), _client.Ask($"qRcmd,{Hex("info status")}"));
        Assert.Equal("OK", _client.Next());
        Assert.Equal("O" + Hex("unknown command: 'foo'\n"), _client.Ask($"qRcmd,{Hex("foo")}"));
        Assert.Equal("OK", _client.Next());
    }

    [Fact]
    public void A_slow_debugger_is_waited_for()
    {
        _client.Stalls = true;
        _client.Send("qC");
        Assert.Equal(0, _client.Room);
        _client.Stalls = false;
        _bench.OnLoop(() => _client.Frontend!.Writable());
        Assert.Equal("QC01", _client.Next());
        Assert.NotEqual(0, _client.Room);
    }

    [Fact]
    public void Browsers_get_no_debugger()
    {
        _client.SendRaw("POST / HTTP/1.1\r\n\r\n$vKill;1#6e");
        Assert.Equal("", _client.Rest);
        Assert.Equal(RunState.PreLaunch, State);
        _client.Tell(CharEvent.Closed);
        _client.Tell(CharEvent.Opened);
        Assert.Equal("QC01", _client.Ask("qC"));
    }

    /// <summary>Each packet on its own, of any first letter, with what hurts most behind it.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Hostile_packets_get_answers_and_nothing_worse(int seed)
    {
        var random = new Random(seed);
        const string letters = "0123456789abcdefpvqQzZXMmGgHTsScCDR-,;:=.#$}*\u0003\u00FF";
        for (int i = 0; i < 3000; i++)
        {
            var text = new StringBuilder();
            for (int length = random.Next(24); length > 0; length--) text.Append(letters[random.Next(letters.Length)]);
            string packet = text.ToString();
            if (packet.StartsWith("vKill", StringComparison.Ordinal)) continue;
            _client.Send(packet);
        }
        _client.SendRaw("#00\u0003");
        _bench.OnLoop(() => _bench.Machine.Pause());
        Assert.EndsWith("$QC01#f5", Answer());

        string Answer()
        {
            _client.Send("Hg1");
            _client.Send("qC");
            return _client.Rest;
        }
    }
}
