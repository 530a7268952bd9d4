using Qkvm.Control;
using Qkvm.Control.Gdb;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Machines;

namespace Qkvm.Tests.Control;

/// <summary>Monitors that other hosts can reach are warned of, on the real event loop's sockets.</summary>
public sealed class ExposureTests : IDisposable
{
    readonly StringWriter _output = new();
    readonly MachineEnvironment _environment = new();
    readonly BackendHost _host;

    public ExposureTests()
    {
        var notices = new Notices(_output);
        notices.Release();
        _host = new BackendHost(_environment, notices, static () => { }, 1);
    }

    public void Dispose()
    {
        using (_environment.Lock.Hold()) _host.Close();
        _environment.Dispose();
    }

    [Theory]
    [InlineData("telnet::0,server=on,wait=off", true)]
    [InlineData("tcp:0.0.0.0:0,server=on,wait=off,logfile=/dev/null", true)]
    [InlineData("websocket:[::]:0,server=on,wait=off", true)]
    [InlineData("tcp:127.0.0.1:0,server=on,wait=off", false)]
    [InlineData("tcp:127.1.2.3:0,server=on,wait=off", false)]
    [InlineData("telnet:localhost:0,server=on,wait=off", false)]
    [InlineData("null", false)]
    public void Listening_beyond_loopback_is_said(string device, bool warns)
    {
        using (_environment.Lock.Hold())
        {
            string id = _host.AddCharacter(device, "m", $"-monitor {device}");
            Exposure.Warn(_host, id, $"-monitor {device}");
        }
        string expected =
            @$"^qkvm: warning: -monitor {System.Text.RegularExpressions.Regex.Escape(device)}: listens on "
            + @"\S+:\d+: anybody who reaches this host can control the machine; use 127\.0\.0\.1 or a unix socket\n$";
        if (warns) Assert.Matches(expected, _output.ToString());
        else Assert.Equal("", _output.ToString());
    }

    [Fact]
    public void Gdbserver_says_it_too()
    {
        using var bench = new ControlBench();
        using var server = new GdbServer(_host, () => bench.Context);
        using (_environment.Lock.Hold()) server.Open("tcp::0");
        Assert.Contains("gdbserver tcp::0: listens on ", _output.ToString());
    }
}
