using System.Text.Json;

namespace Qkvm.Guest.Tests;

/// <summary>Argument lists that libvirt 9.0 makes for QEMU 7.2 of domains in the shape of OpenStack Nova's and
/// KubeVirt's: the machine starts paused, and a client finds in it what the list says.</summary>
public sealed class CloudListTests : IDisposable
{
    readonly ScratchDirectory _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [ProgramTheory]
    [InlineData("argv-nova-tcg-i440fx")]
    [InlineData("argv-nova-kvm-q35")]
    [InlineData("argv-kubevirt-tcg-q35")]
    [InlineData("argv-kubevirt-kvm-q35")]
    public void A_clouds_machine_starts(string name)
    {
        string directory = Path.GetDirectoryName(_scratch["x"])!;
        using JsonDocument list =
            JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "libvirt", name + ".json")));
        List<string> line = [.. list.RootElement.GetProperty("argv").EnumerateArray().Skip(1)
            .Select(argument => argument.GetString()!.Replace("/vm/", directory + "/"))];
        _scratch.Write("master-key.aes", new byte[32]);
        foreach (string file in (string[])["instance.config", "vmi.config", "vmi.iso"])
            _scratch.Write(file, new byte[1 << 20]);
        foreach (string file in (string[])["instance.qcow2", "vmi.qcow2"]) _scratch.MakeQcow2(file);

        // The tap's descriptor and the display's port are those of whoever starts it; so may the host's KVM be.
        line[line.FindIndex(argument => argument.Contains("\"type\":\"tap\""))] =
            """{"type":"user","id":"hostnet0"}""";
        line[line.IndexOf("-vnc") + 1] = $"unix:{directory}/screen";
        line[line.IndexOf("-accel") + 1] = "tcg";

        using GuestProcess process = GuestProcess.Start([.. line]);
        using var client = new QmpClient(_scratch["monitor.sock"]);
        client.Run("{\"execute\":\"qmp_capabilities\"}");
        Assert.Equal("prelaunch", Ask("query-status").GetProperty("status").GetString());
        string[] devices = [.. Ask("qom-list", "/machine/peripheral").EnumerateArray()
            .Select(device => device.GetProperty("name").GetString()!)];
        foreach (string argument in line)
        {
            if (!argument.StartsWith("{\"driver\"", StringComparison.Ordinal)) continue;
            using JsonDocument given = JsonDocument.Parse(argument);
            if (given.RootElement.TryGetProperty("id", out JsonElement id)) Assert.Contains(id.GetString(), devices);
        }
        client.Run("{\"execute\":\"quit\"}");
        Assert.Equal(0, process.WaitExit());

        JsonElement Ask(string command, string? path = null) => client.Run(path == null
            ? $$$"""{"execute":"{{{command}}}"}"""
            : $$$"""{"execute":"{{{command}}}","arguments":{"path":"{{{path}}}"}}""").GetProperty("return");
    }
}
