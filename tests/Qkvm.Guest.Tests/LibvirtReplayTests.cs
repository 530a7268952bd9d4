using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace Qkvm.Guest.Tests;

/// <summary>What libvirt 9.0 and 12.8 ask when they probe an emulator, start a machine and look after it, as it was
/// recorded beside QEMU 7.2 and 11.1: each command answers in the shape that QEMU's reply had.</summary>
public sealed class LibvirtReplayTests : IDisposable
{
    static readonly string[] s_domain =
    [
        "-name", "guest=d,debug-threads=on", "-machine", "pc-i440fx-7.2,usb=off,memory-backend=pc.ram", "-accel", "tcg",
        "-cpu", "qemu64", "-m", "512", "-object",
        """{"qom-type":"memory-backend-ram","id":"pc.ram","size":536870912}""",
        "-smp", "2,maxcpus=4,sockets=4,cores=1,threads=1", "-blockdev",
        """{"driver":"null-co","size":1048576,"node-name":"libvirt-1-storage"}""", "-blockdev",
        """{"driver":"raw","file":"libvirt-1-storage","node-name":"libvirt-1-format"}""",
        "-device", """{"driver":"virtio-blk-pci","drive":"libvirt-1-format","id":"virtio-disk0"}""",
        "-netdev", """{"type":"user","id":"hostnet0"}""",
        "-device", """{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0"}""",
        "-chardev", "pty,id=charserial0",
        "-device", """{"driver":"isa-serial","chardev":"charserial0","id":"serial0"}""",
        "-device", """{"driver":"VGA","id":"video0","vgamem_mb":16}""",
        "-device", """{"driver":"virtio-balloon-pci","id":"balloon0"}""",
    ];

    /// <summary>As libvirt 12.8 writes it: the monitor is an object, a raw disk one node; time, power management and
    /// confinement are said. Without USB and virtio-serial. @ is a directory.</summary>
    static readonly string[] s_newDomain =
    [
        "-name", "guest=tcg-i440fx,debug-threads=on", "-S",
        "-machine", "pc-i440fx-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram,hpet=off,acpi=on",
        "-accel", "tcg", "-cpu", "qemu64", "-m", "size=524288k", "-object",
        """{"qom-type":"memory-backend-ram","id":"pc.ram","size":536870912}""", "-overcommit", "mem-lock=off",
        "-smp", "2,maxcpus=4,sockets=4,cores=1,threads=1", "-uuid", "b62a314c-981f-430b-9d0e-a3857bb797ec",
        "-no-user-config", "-nodefaults", "-chardev", "socket,id=charmonitor,path=@/qmp,server=on,wait=off",
        "-object", """{"qom-type":"monitor-qmp","id":"monitor","chardev":"charmonitor"}""",
        "-rtc", "base=utc,driftfix=slew", "-global", "kvm-pit.lost_tick_policy=delay", "-no-shutdown",
        "-global", "PIIX4_PM.disable_s3=1", "-global", "PIIX4_PM.disable_s4=1", "-boot", "strict=on",
        "-blockdev",
        """
        {"driver":"file","filename":"@/disk.img","node-name":"libvirt-1-storage","read-only":false,
        "auto-read-only":true,"discard":"unmap"}
        """, "-device",
        """
        {"driver":"virtio-blk-pci","bus":"pci.0","addr":"0x6","drive":"libvirt-1-storage","id":"virtio-disk0",
        "bootindex":1}
        """,
        "-device", """{"driver":"ide-cd","bus":"ide.0","unit":0,"id":"ide0-0-0"}""",
        "-netdev", """{"type":"user","id":"hostnet0"}""", "-device",
        """
        {"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:11:22:33","bus":"pci.0",
        "addr":"0x3"}
        """, "-chardev", "pty,id=charserial0",
        "-device", """{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}""",
        "-audiodev", """{"id":"audio1","driver":"none"}""", "-vnc", "unix:@/vnc,audiodev=audio1",
        "-device", """{"driver":"VGA","id":"video0","vgamem_mb":16,"bus":"pci.0","addr":"0x2"}""",
        "-device", """{"driver":"virtio-balloon-pci","id":"balloon0","bus":"pci.0","addr":"0x7"}""",
        "-object", """{"qom-type":"rng-random","id":"objrng0","filename":"/dev/urandom"}""",
        "-device", """{"driver":"virtio-rng-pci","rng":"objrng0","id":"rng0","bus":"pci.0","addr":"0x8"}""",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-msg", "timestamp=on",
    ];

    readonly ScratchDirectory _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [ProgramTheory]
    [InlineData("probe-9.0.jsonl", "none,accel=kvm:tcg")]
    [InlineData("probe-12.8.jsonl", "none,accel=kvm:mshv:tcg")]
    public void Probes_are_answered(string recording, string machine) =>
        Replay(recording, "-machine", machine, "-nographic");

    [ProgramTheory]
    [InlineData("start-9.0.jsonl")]
    [InlineData("run-9.0.jsonl")]
    public void A_domain_is_looked_after(string recording) => Replay(recording, [.. s_domain, "-display", "none"]);

    /// <summary>No guest answers when a device is to go: a reset takes it away.</summary>
    [ProgramFact]
    public void A_domain_of_libvirt_12_8_is_started_and_looked_after()
    {
        foreach (string disk in (string[])["disk.img", "empty.img", "cd.iso"])
            using (FileStream made = File.Create(_scratch[disk])) made.SetLength(1 << 20);
        string directory = Path.GetDirectoryName(_scratch["qmp"])!;
        using GuestProcess process =
            GuestProcess.Start([.. s_newDomain.Select(a => a.Trim().ReplaceLineEndings("").Replace("@", directory))]);
        using var client = new QmpClient(_scratch["qmp"]);
        Replay(client, "start-12.8.jsonl", directory);
        Replay(client, "run-12.8.jsonl", directory);
        Assert.Equal("PNG"u8, File.ReadAllBytes(_scratch["screen.png"]).AsSpan(1, 3));
        client.Run("{\"execute\":\"quit\"}");
        Assert.Equal(0, process.WaitExit());
    }

    void Replay(string recording, params string[] arguments)
    {
        string path = _scratch["qmp"];
        using GuestProcess process = GuestProcess.Start(["-S", "-no-user-config", "-nodefaults", .. arguments, "-qmp",
            $"unix:{path},server=on,wait=off"]);
        using var client = new QmpClient(path);
        if (recording.StartsWith("run", StringComparison.Ordinal)) client.Run("{\"execute\":\"qmp_capabilities\"}");
        Replay(client, recording);
        client.Run("{\"execute\":\"quit\"}");
        Assert.Equal(0, process.WaitExit());
    }

    /// <param name="directory">What @ stands for.</param>
    static void Replay(QmpClient client, string recording, string directory = "@")
    {
        foreach (string line in File.ReadLines(Path.Combine(AppContext.BaseDirectory, "libvirt", recording)))
        {
            using JsonDocument expected = JsonDocument.Parse(line.Replace("@", directory));
            JsonElement reply = client.Run(Command(expected.RootElement));
            if (!Fits(reply, expected.RootElement))
                Assert.Fail($"asked:\n{line}\nanswered:\n{reply.GetRawText()}");
        }
    }

    static string Command(JsonElement recorded) => recorded.TryGetProperty("arguments", out JsonElement given)
        ? $"{{\"execute\":{recorded.GetProperty("execute").GetRawText()},\"arguments\":{given.GetRawText()},\"id\":1}}"
        : $"{{\"execute\":{recorded.GetProperty("execute").GetRawText()},\"id\":1}}";

    /// <summary>Members of each element, members of the object, a kind of value, or an error's class.</summary>
    static bool Fits(JsonElement reply, JsonElement expected)
    {
        if (reply.TryGetProperty("error", out JsonElement error))
        {
            // libvirt goes on without the device
            string name = error.GetProperty("class").GetString()!;
            return expected.TryGetProperty("error", out JsonElement known) && known.GetString() == name
                || expected.GetProperty("execute").GetString() == "device-list-properties" && name == "DeviceNotFound"
                || expected.GetRawText().Contains("hv-passthrough") && name == "GenericError";
        }
        JsonElement value = reply.GetProperty("return");
        if (expected.TryGetProperty("each", out JsonElement each))
            return value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(one => Has(one, each));
        if (expected.TryGetProperty("has", out JsonElement members)) return Has(value, members);
        return expected.TryGetProperty("is", out JsonElement kind) && kind.GetString() switch
        {
            "str" => value.ValueKind == JsonValueKind.String,
            "bool" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
            _ => value.ValueKind == JsonValueKind.Number,
        };
    }

    static bool Has(JsonElement value, JsonElement members) => members.EnumerateArray().All(member =>
        value.ValueKind == JsonValueKind.Object && value.TryGetProperty(member.GetString()!, out _));
}

/// <summary>Talks QMP on a UNIX socket.</summary>
sealed class QmpClient : IDisposable
{
    readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    readonly StreamReader _reader;

    /// <summary>Connects as soon as there is a listener, and reads the greeting.</summary>
    public QmpClient(string path)
    {
        DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
        while (true)
            try
            {
                _socket.Connect(new UnixDomainSocketEndPoint(path));
                break;
            }
            catch (SocketException) when (DateTime.UtcNow < deadline) { Thread.Sleep(20); }
        _socket.ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds;
        _reader = new StreamReader(new NetworkStream(_socket));
        _reader.ReadLine();
    }

    /// <summary>The reply to a command; events before it are passed over.</summary>
    public JsonElement Run(string command)
    {
        _socket.Send(Encoding.UTF8.GetBytes(command + "\r\n"));
        while (true)
        {
            string line = _reader.ReadLine() ?? throw new IOException($"QMP hung up after {command}");
            JsonElement reply = JsonDocument.Parse(line).RootElement;
            if (!reply.TryGetProperty("event", out _)) return reply;
        }
    }

    public void Dispose()
    {
        _reader.Dispose();
        _socket.Dispose();
    }
}
