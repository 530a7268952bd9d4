namespace Qkvm.Guest.Tests;

/// <summary>Monitors driven by programs that people use for it.</summary>
public sealed class MonitorProgramTests : IDisposable
{
    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    GuestProcess Start(string option) => GuestProcess.Start("-accel", "tcg", "-display", "none", "-name", "n", "-S",
        "-serial", "null", "-monitor", "none", option, $"unix:{Socket},server=on,wait=off");

    string Socket => _files["socket"];

    void AwaitSocket()
    {
        for (DateTime deadline = DateTime.UtcNow + Surroundings.Patience; !File.Exists(Socket)
            && DateTime.UtcNow < deadline;) Thread.Sleep(20);
    }

    [PythonFact]
    public void A_client_in_Python_gets_its_answers_and_breaks_nothing()
    {
        using GuestProcess machine = Start("-qmp");
        AwaitSocket();
        using GuestProcess client = GuestProcess.StartOther("python3",
            Path.Combine(AppContext.BaseDirectory, "qmp-client.py"), Socket, $"{machine.Id}");
        int code = client.WaitExit();
        Assert.True(code == 0, client.Errors);
        Assert.Equal("ok\n", client.Output);
        Assert.Equal(0, machine.WaitExit());
    }

    [SocatFact]
    public void Socat_carries_QMP()
    {
        using GuestProcess machine = Start("-qmp");
        AwaitSocket();
        using GuestProcess socat = GuestProcess.StartOther("socat", "-", $"UNIX-CONNECT:{Socket}");
        socat.Expect("{\"QMP\"");
        socat.Send("{\"execute\":\"qmp_capabilities\"}\r\n{\"execute\":\"query-name\",\"id\":7}\r\n");
        Assert.Equal("{\"return\": {\"name\": \"n\"}, \"id\": 7}", socat.Expect("{\"return\": {\"name\""));
        socat.Send("{\"execute\":\"quit\"}");
        Assert.Equal(0, machine.WaitExit());
        Assert.Equal(0, socat.WaitExit());
    }

    [SocatFact]
    public void Socat_carries_the_human_monitor()
    {
        using GuestProcess machine = Start("-monitor");
        AwaitSocket();
        using GuestProcess socat = GuestProcess.StartOther("socat", "-", $"UNIX-CONNECT:{Socket}");
        socat.Expect("type 'help' for more information");
        socat.Send("info status\n");
        Assert.Equal("VM status: paused (prelaunch)", socat.Expect("VM status"));
        socat.Send("quit\n");
        Assert.Equal(0, machine.WaitExit());
        Assert.Equal(0, socat.WaitExit());
    }
}
