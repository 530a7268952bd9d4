using Qkvm.Core.Accel;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>Stopping and going on under a debugger: what it hears, and what others see of it.</summary>
public sealed class GdbRunTests : IDisposable
{
    readonly ControlBench _bench = new();
    readonly List<MachineEvent> _events = [];
    readonly GdbClient _client;

    public GdbRunTests()
    {
        _client = new GdbClient(_bench);
        _bench.OnLoop(() => _bench.Machine.Events.Raised += _events.Add);
    }

    public void Dispose() => _bench.Dispose();

    RunState State => _bench.OnLoop(() => _bench.Machine.State);

    static DebugStop At(DebugPointKind kind, ulong point, ulong length = 1, ulong address = 0) =>
        new(new DebugPoint(kind, point, length), address);

    void Leave(int cpu, DebugStop stop) => _bench.Cpus[cpu].Leave(new VCpuExit(ExitReason.Debug, Stop: stop));

    [Fact]
    public void A_debugger_that_comes_stops_the_machine_and_detaching_lets_it_go_on()
    {
        _client.Tell(CharEvent.Closed);
        _bench.OnLoop(() => _bench.Machine.Resume());
        _client.Tell(CharEvent.Opened);
        Assert.Equal(RunState.Paused, State);
        Assert.Equal("T05thread:01;", _client.Ask("?"));
        Assert.Equal("OK", _client.Ask("D"));
        Assert.Equal(RunState.Running, State);
        Assert.Equal([new ResumeEvent(), new StopEvent(), new ResumeEvent()], _events);
    }

    [Fact]
    public void Ctrl_c_stops_what_runs()
    {
        _client.Send("vCont;c");
        Assert.Equal(RunState.Running, State);
        _client.SendRaw("\u0003");
        Assert.Equal("T02thread:01;", _client.Next());
        Assert.Equal(RunState.Paused, State);
        _client.SendRaw("\u0003");                                 // once more changes nothing
        Assert.Equal("T02thread:01;", _client.Ask("?"));
    }

    [Fact]
    public void A_monitor_s_stop_is_told_like_ctrl_c()
    {
        _client.Send("c");
        _bench.OnLoop(() => _bench.Machine.Pause());
        Assert.Equal("T02thread:01;", _client.Next());
        _bench.OnLoop(() => _bench.Machine.Resume());              // nobody asked the debugger: nothing is told
        _bench.OnLoop(() => _bench.Machine.Pause());
        Assert.DoesNotContain('$', _client.Rest);
    }

    [Theory]
    [InlineData("Z0,1000,1", DebugPointKind.Software, 1, "T05thread:p01.02;swbreak:;")]
    [InlineData("Z1,1000,1", DebugPointKind.Hardware, 1, "T05thread:p01.02;hwbreak:;")]
    [InlineData("Z2,1000,4", DebugPointKind.Write, 4, "T05thread:p01.02;watch:0000000000001002;")]
    [InlineData("Z3,1000,4", DebugPointKind.Read, 4, "T05thread:p01.02;rwatch:0000000000001002;")]
    [InlineData("Z4,1000,4", DebugPointKind.Access, 4, "T05thread:p01.02;awatch:0000000000001002;")]
    public void A_stop_names_thread_and_point(string set, DebugPointKind kind, ulong length, string told)
    {
        _client.Ask("qSupported:multiprocess+;swbreak+;hwbreak+");
        Assert.Equal("OK", _client.Ask(set));
        _client.Send("vCont;c");
        Assert.Equal([new DebugPoint(kind, 0x1000, length)], _bench.OnLoop(() => _bench.Points));
        Leave(1, At(kind, 0x1000, length, 0x1002));
        Assert.Equal(told, _client.Next());
        Assert.Equal(RunState.Debug, State);
        Assert.Empty(_bench.OnLoop(() => _bench.Points));          // memory is the guest's while it stands
        Assert.Equal([new ResumeEvent(), new StopEvent()], _events);
        Assert.Equal("QCp01.02", _client.Ask("qC"));
    }

    [Fact]
    public void A_client_that_knows_of_no_kinds_hears_of_none()
    {
        _client.Ask("Z0,1000,1");
        _client.Send("c");
        Leave(0, At(DebugPointKind.Software, 0x1000));
        Assert.Equal("T05thread:01;", _client.Next());
    }

    /// <summary>One steps with the other standing, then with the other running.</summary>
    [Theory]
    [InlineData("vCont;s:2", 0)]
    [InlineData("vCont;s:2;c", 1)]
    public void A_step_is_one_thread_s(string packet, int othersRun)
    {
        int before = _bench.Cpus[0].Entered;
        _client.Send(packet);
        // The step's end stops all: the other one's thread has to have come so far.
        SpinWait.SpinUntil(() => _bench.Cpus[0].Entered >= before + othersRun,
            TimeSpan.FromSeconds(30));
        Leave(1, default);
        Assert.Equal("T05thread:02;", _client.Next());
        Assert.Equal((VCpuSteps.None, VCpuSteps.OneUndisturbed), (_bench.Cpus[0].Steps, _bench.Cpus[1].Steps));
        Assert.Equal(before + othersRun, _bench.Cpus[0].Entered);
        _client.Ask("Qqemu.sstep=1");
        _client.Send("vCont;s:2");
        Leave(1, default);
        _client.Next();
        Assert.Equal(VCpuSteps.One, _bench.Cpus[1].Steps);
    }

    /// <summary>What the second saw at the same time is told when the debugger goes on.</summary>
    [Fact]
    public void Watched_data_that_two_touch_at_once_is_told_twice()
    {
        _client.Ask("Z2,1000,4");
        _bench.OnLoop(() =>
        {
            _client.Frontend!.Receive("$c#63"u8);
            Leave(0, At(DebugPointKind.Write, 0x1000, 4, 0x1000));
            Leave(1, At(DebugPointKind.Write, 0x1000, 4, 0x1003));
        });
        string[] told = [_client.Next(), Again()];
        Assert.Equal(["T05thread:01;watch:0000000000001000;", "T05thread:02;watch:0000000000001003;"], told.Order());

        string Again()
        {
            _client.Send("c");
            return _client.Next();
        }
    }

    [Fact]
    public void A_packet_to_a_machine_that_runs_stops_it_first()
    {
        _client.Send("c");
        _client.Send("qC");
        Assert.Equal(["T02thread:01;", "QC01"], [_client.Next(), _client.Next()]);
        Assert.Equal(RunState.Paused, State);
    }

    /// <summary>A broken connection takes its points along; what ran runs on, and what stood stands.</summary>
    [Fact]
    public void A_debugger_that_vanishes_leaves_no_points()
    {
        _client.Ask("Z0,1000,1");
        _client.Send("vCont;c:2");                                 // the first one stands
        _client.Tell(CharEvent.Closed);
        Assert.Equal(RunState.Running, State);
        Assert.Empty(_bench.OnLoop(() => _bench.Points));
        Assert.True(SpinWait.SpinUntil(() => _bench.Cpus[0].Entered > 0, TimeSpan.FromSeconds(60)));
        _client.Tell(CharEvent.Opened);
        Assert.Equal("T05thread:01;", _client.Ask("?"));
        _client.Tell(CharEvent.Closed);
        Assert.Equal(RunState.Paused, State);
    }

    /// <summary>gdbserver none while a debugger is there; it may say so itself.</summary>
    [Fact]
    public void A_session_that_is_closed_leaves_no_points()
    {
        _client.Ask("Z0,1000,1");
        _client.Send("vCont;c:2");                                 // the first one stands
        _bench.OnLoop(() => _client.Session.Close());
        Assert.Equal(RunState.Running, State);
        Assert.Empty(_bench.OnLoop(() => _bench.Points));
        Assert.True(SpinWait.SpinUntil(() => _bench.Cpus[0].Entered > 0, TimeSpan.FromSeconds(60)));
        Assert.Null(_client.Frontend);
        _bench.OnLoop(() => _bench.Machine.Pause());
        Assert.DoesNotContain('$', _client.Rest);
    }

    [Fact]
    public void The_end_of_the_program_is_told()
    {
        _bench.OnLoop(() => _client.Session.TellExit(3));
        Assert.Equal("W03", _client.Next());
    }

    [Fact]
    public void A_second_session_finds_everything_as_new()
    {
        _client.Ask("qSupported:multiprocess+");
        _client.Ask("QStartNoAckMode");
        _client.Ask("Hg2");
        _client.Ask("Z0,1000,1");
        _client.Tell(CharEvent.Closed);
        _client.Tell(CharEvent.Opened);
        _client.SendRaw("$qC#b4");
        Assert.StartsWith("+$", _client.Rest[_client.Rest.LastIndexOf('+')..]);
        Assert.Equal("QC01", _client.Next());
        Assert.Equal("E22", _client.Ask("z0,1000,1"));
    }
}
