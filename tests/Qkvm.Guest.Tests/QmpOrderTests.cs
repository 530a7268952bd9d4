using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests;

/// <summary>In which order events and answers come: as from QEMU 7.2, which is asked beside where it is
/// installed.</summary>
public sealed partial class QmpOrderTests : IDisposable
{
    const string Resume = """{"event": "RESUME"}""", Stop = """{"event": "STOP"}""", Done = """{"return": {}}""",
        Reset = """{"event": "RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}}""",
        PowerDown = """{"event": "POWERDOWN"}""",
        Quit = """{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}""",
        Panic = """{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}""";

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    /// <param name="Exit">Its code; null where it goes on.</param>
    public sealed record Talk(string Name, string[] Options, string[] Commands, string[] Heard, int? Exit)
    {
        public override string ToString() => Name;
    }

    public static TheoryData<string> Names => [.. s_talks.Select(talk => talk.Name)];

    static readonly Talk[] s_talks =
    [
        new("running", [], ["stop", "cont", "system_reset", "system_powerdown", "quit"],
            [Stop, Done, Resume, Done, Reset, Done, PowerDown, Done, Done, Quit], 0),
        new("waiting", ["-S"], ["stop", "cont", "cont", "system_reset", "quit"],
            [Done, Resume, Done, Done, Reset, Done, Done, Quit], 0),
        new("panic", ["-S", "-device", "pvpanic"], ["cont"], [Resume, Done, Panicked("poweroff"), Panic], 0),
        new("panic, paused", ["-S", "-device", "pvpanic", "-no-shutdown"], ["cont"],
            [Resume, Done, Panicked("pause"), Stop], null),
        new("panic, ignored", ["-S", "-device", "pvpanic", "-action", "panic=none"], ["cont"],
            [Resume, Done, Panicked("run")], null),
        new("panic, failure", ["-S", "-device", "pvpanic", "-action", "panic=exit-failure"], ["cont"],
            [Resume, Done, Panicked("poweroff"), Panic], 1),
    ];

    static string Panicked(string action) =>
        $$$"""{"event": "GUEST_PANICKED", "data": {"action": "{{{action}}}"}}""";

    [ProgramTheory, MemberData(nameof(Names))]
    public void Events_and_answers_come_in_QEMU_s_order(string name) => Check(Surroundings.Program, name);

    [QemuTheory, MemberData(nameof(Names))]
    public void QEMU_s_order_is_that(string name) => Check(Surroundings.Qemu, name);

    void Check(string program, string name)
    {
        Talk talk = s_talks.Single(t => t.Name == name);
        string socket = _files["qmp"], disk = _files["panic.img"];
        // mov dx, 505h; mov al, 1; out dx, al; cli; hlt: to pvpanic, which says that the guest has panicked
        var sector = new byte[512];
        byte[] code = [0xBA, 0x05, 0x05, 0xB0, 0x01, 0xEE, 0xFA, 0xF4];
        code.CopyTo(sector, 0);
        (sector[510], sector[511]) = (0x55, 0xAA);
        if (talk.Options.Contains("pvpanic")) File.WriteAllBytes(disk, sector);
        string[] drive = File.Exists(disk) ? ["-drive", $"format=raw,snapshot=on,file={disk}"] : [];
        using GuestProcess machine = GuestProcess.StartOther(program, ["-accel", "tcg", "-display", "none",
            "-nodefaults", "-qmp", $"unix:{socket},server=on,wait=off", .. drive, .. talk.Options]);
        using var client = new LineClient(socket);
        Assert.StartsWith("{\"QMP\"", client.Next());
        client.Send("{\"execute\": \"qmp_capabilities\"}\n");
        Assert.Equal(Done, client.Next());
        var heard = new List<string?>();
        int next = 0;
        foreach (string command in talk.Commands)
        {
            client.Send($"{{\"execute\": \"{command}\"}}\n");
            do heard.Add(WithoutTime(client.Next()));
            while (heard[^1] != Done && ++next < 100);
        }
        while (heard.Count < talk.Heard.Length) heard.Add(WithoutTime(client.Next()));
        // QEMU answers quit on a thread of its own: sometimes after the event.
        if (program == Surroundings.Qemu && heard[^1] == Done && heard[^2] == Quit)
            (heard[^1], heard[^2]) = (heard[^2], heard[^1]);
        Assert.Equal(talk.Heard, heard);
        if (talk.Exit is { } code1)
        {
            Assert.Equal(code1, machine.WaitExit());
            return;
        }
        client.Send("{\"execute\": \"query-name\"}\n");            // nothing has come meanwhile
        Assert.Equal(Done, client.Next());
    }

    static string? WithoutTime(string? line) => line == null ? null : Time().Replace(line, "{");

    [GeneratedRegex("""^\{"timestamp": \{[^}]*\}, """)]
    private static partial Regex Time();
}

/// <summary>A client that reads lines of a UNIX socket.</summary>
sealed class LineClient : IDisposable
{
    readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    readonly StreamReader _reader;

    public LineClient(string path)
    {
        for (DateTime deadline = DateTime.UtcNow + Surroundings.Patience; !_socket.Connected;)
            try { _socket.Connect(new UnixDomainSocketEndPoint(path)); }
            catch (SocketException) when (DateTime.UtcNow < deadline) { Thread.Sleep(20); }
        _socket.ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds;
        _reader = new StreamReader(new NetworkStream(_socket), Encoding.UTF8);
    }

    /// <summary>Null: it has ended.</summary>
    public string? Next() => _reader.ReadLine();

    public void Send(string text) => _socket.Send(Encoding.UTF8.GetBytes(text));

    public void Dispose() => _socket.Dispose();
}
