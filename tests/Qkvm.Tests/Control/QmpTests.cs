using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Qkvm.Control;
using Qkvm.Control.Qmp;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>Dialogs of QMP, answered as QEMU 7.2 answers.</summary>
public sealed class QmpTests : IDisposable
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    readonly ControlBench _bench = new();
    readonly Client _client;

    public QmpTests() => _client = new Client(_bench);

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void The_greeting_comes_first_and_negotiation_is_demanded()
    {
        Assert.Matches("""^\{"QMP": \{"version": \{"qemu": \{"major": 7, "minor": 2, "micro": 0\}, """
            + @"""package"": ""qkvm [0-9.]+""\}, ""capabilities"": \[""oob""\]\}\}$", _client.Next());
        Assert.Equal("""{"id": 1, "error": {"class": "CommandNotFound", """
            + "\"desc\": \"Expecting capabilities negotiation with 'qmp_capabilities'\"}}",
            _client.Ask("""{"execute":"query-status","id":1}"""));
        Assert.Equal("""{"return": {}}""", _client.Ask("""{"execute":"qmp_capabilities"}"""));
        Assert.Equal("""{"error": {"class": "CommandNotFound", """
            + "\"desc\": \"Capabilities negotiation is already complete, command ignored\"}}",
            _client.Ask("""{"execute":"qmp_capabilities"}"""));
    }

    [Theory]
    [InlineData("""{"execute":"query-status","id":"é😀"}""",
        """{"return": {"status": "prelaunch", "singlestep": false, "running": false}, "id": "\u00E9\uD83D\uDE00"}""")]
    [InlineData("""{'execute':'query-name','id':{'a':[1,null,true,-0.5]}}""",
        """{"return": {"name": "bench"}, "id": {"a": [1, null, true, -0.5]}}""")]
    [InlineData("""{"execute":"nonesuch"}""",
        """{"error": {"class": "CommandNotFound", "desc": "The command nonesuch has not been found"}}""")]
    [InlineData("""[]""", """{"error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}""")]
    [InlineData("""{}""", """{"error": {"class": "GenericError", "desc": "QMP input lacks member 'execute'"}}""")]
    [InlineData("""{"execute":1,"id":7}""",
        """{"id": 7, "error": {"class": "GenericError", "desc": "QMP input member 'execute' must be a string"}}""")]
    [InlineData("""{"execute":"stop","foo":1}""",
        """{"error": {"class": "GenericError", "desc": "QMP input member 'foo' is unexpected"}}""")]
    [InlineData("""{"execute":"stop","arguments":1}""",
        """{"error": {"class": "GenericError", "desc": "QMP input member 'arguments' must be an object"}}""")]
    [InlineData("""{"exec-oob":"stop"}""",
        """{"error": {"class": "GenericError", "desc": "QMP input member 'exec-oob' is unexpected"}}""")]
    [InlineData("""{"execute":"device_del","arguments":{"id":"nope"}}""",
        """{"error": {"class": "DeviceNotFound", "desc": "Device 'nope' not found"}}""")]
    [InlineData("""{"execute":"device_del","arguments":{"id":1}}""",
        """{"error": {"class": "GenericError", "desc": "Invalid parameter type for 'id', expected: string"}}""")]
    [InlineData("""{"execute":"device_del"}""",
        """{"error": {"class": "GenericError", "desc": "Parameter 'id' is missing"}}""")]
    [InlineData("""{"execute":"balloon","arguments":{"value":1.0}}""",
        """{"error": {"class": "GenericError", "desc": "Invalid parameter type for 'value', expected: integer"}}""")]
    [InlineData("""{"execute":"human-monitor-command","arguments":{"command-line":"info status"}}""",
        """{"return": "VM status: paused (prelaunch)\r\n"}""")]
    [InlineData("""{"execute":"human-monitor-command","arguments":{"command-line":"foo"}}""",
        """{"return": "unknown command: 'foo'\r\n"}""")]
    public void A_request_gets_QEMU_s_answer(string request, string answer)
    {
        _client.Negotiate();
        Assert.Equal(answer, _client.Ask(request));
    }

    [Fact]
    public void Events_come_before_the_answers_of_what_caused_them()
    {
        _client.Negotiate();
        _client.Send("""{"execute":"cont"}{"execute":"stop"}{"execute":"system_reset"}{"execute":"system_powerdown"}"""
            + """{"execute":"device_del","arguments":{"id":"disk0"}}{"execute":"system_reset"}""");
        string[] lines = [.. Enumerable.Range(0, 12).Select(_ => WithoutTime(_client.Next()))];
        Assert.Equal(
        [
            """{"event": "RESUME"}""", """{"return": {}}""", """{"event": "STOP"}""", """{"return": {}}""",
            """{"event": "RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}}""", """{"return": {}}""",
            """{"event": "POWERDOWN"}""", """{"return": {}}""",
            """{"return": {}}""",                                  // no guest answers: it goes with the reset
            """{"event": "DEVICE_DELETED", "data": {"device": "disk0", "path": "/machine/peripheral/disk0"}}""",
            """{"event": "RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}}""", """{"return": {}}""",
        ], lines);
    }

    [Fact]
    public void The_answer_to_quit_comes_before_the_end()
    {
        _client.Negotiate();
        _client.Send("""{"execute":"quit","id":9}""");
        Assert.Equal("""{"return": {}, "id": 9}""", _client.Next());
        Assert.Equal("""{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}""",
            WithoutTime(_client.Next()));
    }

    [Fact]
    public void A_client_that_does_not_read_is_left_alone()
    {
        _client.Negotiate();
        _bench.OnLoop(() =>
        {
            _client.Stalls = true;
            for (int i = 0; i < 100_000; i++) _bench.Machine.Events.Raise(new StopEvent());
        });
        Assert.InRange(_bench.OnLoop(() => GC.GetTotalMemory(true)), 0, 200 << 20);
        Assert.Equal(0, _bench.OnLoop(() => _client.Room));
        int lines = _bench.OnLoop(() =>
        {
            _client.Stalls = false;
            _client.Frontend!.Writable();
            return _client.Lines.Count;
        });
        Assert.InRange(lines, 1000, 50_000);                       // the rest was dropped
        while (_client.Lines.Count > 0) _client.Next();
        Assert.Equal("""{"return": {}}""", _client.Ask("""{"execute":"stop"}"""));
    }

    [Fact]
    public void What_a_lost_client_began_is_forgotten()
    {
        _client.Negotiate();
        _client.Send("{\"execute\":\"st");
        _bench.OnLoop(() =>
        {
            _client.Frontend!.Event(CharEvent.Closed);
            _client.Lines.Clear();
            _client.Frontend!.Event(CharEvent.Opened);
        });
        Assert.StartsWith("{\"QMP\"", _client.Next());
        Assert.Contains("CommandNotFound", _client.Ask("""{"execute":"stop"}"""));
    }

    [Fact]
    public void The_schema_leads_from_each_command_to_the_types_of_its_members()
    {
        Dictionary<string, JsonElement> entries = _bench.Query("query-qmp-schema").EnumerateArray()
            .ToDictionary(e => e.GetProperty("name").GetString()!);
        foreach (JsonElement entry in entries.Values)
        {
            string[] referred = entry.GetProperty("meta-type").GetString() switch
            {
                "command" => [Text(entry, "arg-type"), Text(entry, "ret-type")],
                "event" => [Text(entry, "arg-type")],
                "array" => [Text(entry, "element-type")],
                "object" => [.. entry.GetProperty("members").EnumerateArray().Select(m => Text(m, "type")),
                    .. entry.TryGetProperty("variants", out JsonElement cases)
                        ? cases.EnumerateArray().Select(v => Text(v, "type")) : []],
                _ => [],
            };
            Assert.All(referred, name => Assert.Contains(name, entries.Keys));
        }
        Assert.Contains("socket", Path("chardev-add", "backend", "type").GetProperty("values").EnumerateArray()
            .Select(v => v.GetString()));
        Assert.Equal("server", Member(Member(Variant(Path("chardev-add", "backend"), "socket"), "data"), "server")
            .GetProperty("name").GetString());
        Assert.Equal("ifname", Member(Variant(Path("netdev_add"), "tap"), "ifname").GetProperty("name").GetString());
        Assert.Equal("filename", Member(Variant(Path("blockdev-add"), "file"), "filename").GetProperty("name")
            .GetString());
        Assert.Equal(Text(entries["blockdev-add"], "arg-type"),
            Text(Path("blockdev-reopen", "options"), "element-type"));
        Assert.Equal(JsonValueKind.Null, Member(Path("eject"), "force").GetProperty("default").ValueKind);
        Assert.False(Member(Path("blockdev-remove-medium"), "id").TryGetProperty("default", out _));

        JsonElement Path(string command, params string[] members) => members.Aggregate(
            entries[Text(entries[command], "arg-type")], (at, name) => entries[Text(Member(at, name), "type")]);
        JsonElement Variant(JsonElement union, string name) => entries[Text(union.GetProperty("variants")
            .EnumerateArray().Single(v => Text(v, "case") == name), "type")];
        JsonElement Member(JsonElement type, string name) => (type.TryGetProperty("members", out JsonElement members)
            ? members : entries[Text(type, "type")].GetProperty("members")).EnumerateArray()
            .Single(m => Text(m, "name") == name);
        static string Text(JsonElement entry, string name) => entry.GetProperty(name).GetString()!;
    }

    [Fact]
    public void Events_that_may_come_fast_are_told_at_once_and_then_once_an_interval()
    {
        var time = new ManualTime();
        var passed = new List<MachineEvent>();
        using var throttle = new EventThrottle(passed.Add, static work => work(), time);
        for (ulong i = 1; i <= 5; i++) throttle.Raise(new BalloonChangeEvent(i));
        throttle.Raise(new StopEvent());
        throttle.Raise(new StopEvent());
        Assert.Equal([new BalloonChangeEvent(1), new StopEvent(), new StopEvent()], passed);
        time.Expire();
        Assert.Equal(new BalloonChangeEvent(5), passed[^1]);
        time.Expire();
        Assert.Equal(4, passed.Count);
        throttle.Raise(new BalloonChangeEvent(6));
        Assert.Equal(new BalloonChangeEvent(6), passed[^1]);
    }

    /// <summary>Timers that expire when the test says so.</summary>
    sealed class ManualTime : TimeProvider
    {
        TimerCallback _callback = static _ => { };

        public void Expire() => _callback(null);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan due, TimeSpan period)
        {
            _callback = callback;
            return new Never();
        }

        sealed class Never : ITimer
        {
            public bool Change(TimeSpan due, TimeSpan period) => true;
            public void Dispose() { }
            public ValueTask DisposeAsync() => default;
        }
    }

    static string WithoutTime(string line) =>
        Regex.Replace(line, @"""timestamp"": \{""seconds"": \d+, ""microseconds"": \d+\}, ", "");

    /// <summary>A client on a character backend of its own.</summary>
    sealed class Client : ICharBackend
    {
        readonly ControlBench _bench;
        string _rest = "";

        public Client(ControlBench bench)
        {
            _bench = bench;
            var context = new CommandContext(bench.Machine, bench.Host, CommandCatalogue.Standard);
            bench.OnLoop(() => { _ = new QmpSession(this, context, pretty: false); });
        }

        public Queue<string> Lines { get; } = new();
        public ICharFrontend? Frontend { get; private set; }
        public bool Stalls { get; set; }
        public int Room => Frontend!.Room;
        public string Id => "qmp";
        public string Description => "client";
        public bool IsOpen => true;

        public int Write(ReadOnlySpan<byte> data)
        {
            if (Stalls) return 0;
            lock (Lines)
            {
                string[] pieces = (_rest + Encoding.ASCII.GetString(data)).Split("\r\n");
                foreach (string line in pieces[..^1]) Lines.Enqueue(line);
                _rest = pieces[^1];
            }
            return data.Length;
        }

        public void Connect(ICharFrontend? frontend)
        {
            Frontend = frontend;
            frontend!.Event(CharEvent.Opened);
        }

        public void AcceptInput() { }

        public void Send(string text) => _bench.OnLoop(() => Frontend!.Receive(Encoding.UTF8.GetBytes(text)));

        public string Next()
        {
            string? line = null;
            bool comes = SpinWait.SpinUntil(() => { lock (Lines) return Lines.TryDequeue(out line); }, Patience);
            Assert.True(comes, "no answer comes");
            return line!;
        }

        public string Ask(string request)
        {
            Send(request);
            return Next();
        }

        public void Negotiate()
        {
            Assert.StartsWith("{\"QMP\"", Next());
            Assert.Equal("""{"return": {}}""", Ask("""{"execute":"qmp_capabilities"}"""));
        }
    }
}
