using System.Net.Sockets;
using System.Text.Json;

namespace Qkvm.Guest.Tests;

/// <summary>Monitors as objects, as libvirt 12.8 starts them where they are listed.</summary>
public sealed class MonitorObjectTests : IDisposable
{
    readonly ScratchDirectory _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [ProgramFact]
    public void Monitors_come_and_go()
    {
        string path = _scratch["qmp"], other = _scratch["hmp"];
        using GuestProcess guest = GuestProcess.Start("-machine", "none", "-nodefaults", "-display", "none", "-chardev",
            $"socket,id=charmonitor,path={path},server=on,wait=off", "-object",
            """{"qom-type":"monitor-qmp","id":"monitor","chardev":"charmonitor"}""");
        using Stream control = Connect(path);
        using var reader = new StreamReader(control);
        Assert.StartsWith("{\"QMP\"", reader.ReadLine());
        Ask("""{"execute":"qmp_capabilities"}""");
        string types = Ask("""{"execute":"qom-list-types"}""").GetRawText();
        Assert.Contains("\"monitor-qmp\"", types);
        Assert.Contains("\"monitor-hmp\"", types);
        const string add = """{"execute":"object-add","arguments":{"qom-type":"monitor-hmp","id":"h","chardev":"c"}}""";
        Assert.Contains("can't find value 'c'", Fail(add));
        Ask($$$"""
            {"execute":"chardev-add","arguments":{"id":"c","backend":{"type":"socket","data":{"addr":{"type":"unix",
            "data":{"path":"{{{other}}}"} },"server":true,"wait":false} } } }
            """);
        Ask(add);
        using (var human = new MonitorClient(other)) Assert.Contains("running", human.Run("info status"));
        Assert.Contains("is busy", Fail("""{"execute":"chardev-remove","arguments":{"id":"c"}}"""));
        Ask("""{"execute":"object-del","arguments":{"id":"h"}}""");
        Ask(add);                                                  // the chardev is free again
        using (var human = new MonitorClient(other)) Assert.Contains("running", human.Run("info status"));
        Ask("""{"execute":"object-del","arguments":{"id":"h"}}""");
        Ask("""{"execute":"chardev-remove","arguments":{"id":"c"}}""");
        Ask("""{"execute":"quit"}""");
        Assert.Equal(0, guest.WaitExit());

        JsonElement Ask(string command) => Say(command).GetProperty("return");
        string Fail(string command) => Say(command).GetProperty("error").GetProperty("desc").GetString()!;

        JsonElement Say(string command)
        {
            control.Write(System.Text.Encoding.UTF8.GetBytes(command.ReplaceLineEndings("") + "\n"));
            while (true)
            {
                JsonElement answer = JsonDocument.Parse(reader.ReadLine()!).RootElement;
                if (!answer.TryGetProperty("event", out _)) return answer;
            }
        }
    }

    /// <summary>Each hears that it is done; what follows on the line belongs to nobody.</summary>
    [ProgramFact]
    public void A_monitor_can_end_itself()
    {
        string first = _scratch["qmp"], second = _scratch["hmp"], third = _scratch["other"];
        using GuestProcess guest = GuestProcess.Start("-machine", "none", "-nodefaults", "-display", "none",
            "-chardev", $"socket,id=a,path={first},server=on,wait=off", "-object", "monitor-qmp,id=q,chardev=a",
            "-chardev", $"socket,id=b,path={second},server=on,wait=off", "-object", "monitor-hmp,id=h,chardev=b",
            "-monitor", $"unix:{third},server=on,wait=off");
        using (Stream control = Connect(first))
        {
            using var reader = new StreamReader(control);
            control.Write("""
                {"execute":"qmp_capabilities"}{"execute":"object-del","arguments":{"id":"q"}}{"execute":"quit"}[}
                """u8);
            Assert.StartsWith("{\"QMP\"", reader.ReadLine());
            Assert.Equal("""{"return": {}}""", reader.ReadLine());
            Assert.Equal("""{"return": {}}""", reader.ReadLine());
            using Stream human = Connect(second);
            human.Write("object_del h\nquit\n"u8);
            using var other = new MonitorClient(third);
            DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
            while (other.Run("info qom-tree /objects").Contains("monitor") && DateTime.UtcNow < deadline)
                Thread.Sleep(20);
            Assert.Contains("VM status", other.Run("info status"));
            other.Run("object_add monitor-qmp,id=q,chardev=a");
            Assert.StartsWith("{\"QMP\"", reader.ReadLine());
            Assert.DoesNotContain("error", other.Run("object_add monitor-hmp,id=h,chardev=b"));
            control.Write("""{"execute":"qmp_capabilities"}{"execute":"quit"}"""u8);
            Assert.Equal("""{"return": {}}""", reader.ReadLine());
        }
        Assert.Equal(0, guest.WaitExit());
    }

    static NetworkStream Connect(string path)
    {
        DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
        while (true)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                socket.Connect(new UnixDomainSocketEndPoint(path));
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch (SocketException) when (DateTime.UtcNow < deadline)
            {
                socket.Dispose();
                Thread.Sleep(20);
            }
        }
    }
}
