using System.Net;
using System.Net.Sockets;

namespace Qkvm.Guest.Tests;

/// <summary>What users get wrong: exit code 1, one line on stderr that names the option, and nothing changed on
/// disk.</summary>
public sealed class RefusalTests : IDisposable
{
    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    [ProgramFact]
    public void A_missing_image_is_refused() => Refused("-hda", _files["none.img"]);

    [ProgramFact]
    public void A_directory_is_no_image() => Refused("-hda", Directory.CreateDirectory(_files["directory"]).FullName);

    [ImageFact]
    public void A_truncated_qcow2_image_is_refused()
    {
        byte[] whole = File.ReadAllBytes(_files.MakeQcow2("whole.qcow2"));
        Refused("-drive", $"file={_files.Write("half.qcow2", whole[..60])},format=qcow2,if=virtio");
    }

    [ProgramFact]
    public void A_wrong_passphrase_is_refused()
    {
        string image = _files["disk.luks"];
        using (GuestProcess made = GuestProcess.Start("img", "create", "-q", "--object", "secret,id=s,data=right", "-f",
            "luks", "-o", "key-secret=s,iter-time=10", image, "1M")) Assert.Equal(0, made.WaitExit());
        string drive = $"file={image},format=luks,if=virtio,key-secret=s";
        using GuestProcess program = GuestProcess.Start("-display", "none",
            "-object", "secret,id=s,data=wrong", "-drive",
            drive);
        Assert.Equal(1, program.WaitExit());
        Assert.Contains("Invalid password", program.Errors, StringComparison.Ordinal);
    }

    [ProgramFact]
    public void A_size_of_memory_that_is_none_is_refused() => Refused("-m", "much");

    [ProgramFact]
    public void More_memory_than_the_host_has_is_refused() => Refused("-m", "64T");

    [ProgramFact]
    public void A_busy_port_is_refused()
    {
        using var other = new TcpListener(IPAddress.Loopback, 0);
        other.Start();
        Refused("-monitor", $"telnet:127.0.0.1:{((IPEndPoint)other.LocalEndpoint).Port},server=on,wait=off");
    }

    [ProgramFact]
    public void An_unknown_device_is_refused_with_the_nearest_name() =>
        Assert.Contains("did you mean 'virtio-net-pci'", Refused("-device", "virtio-nt-pci"), StringComparison.Ordinal);

    [ProgramFact]
    public void An_unknown_property_is_refused_with_the_nearest_name() =>
        Assert.Contains("did you mean 'bootindex'", Refused("-device", "VGA,bootindx=1"), StringComparison.Ordinal);

    [ProgramFact]
    public void An_unknown_option_is_refused_with_the_nearest_name()
    {
        using GuestProcess program = GuestProcess.Start("-nographics");
        Assert.Equal(1, program.WaitExit());
        Assert.Contains("did you mean '-nographic'", program.Errors, StringComparison.Ordinal);
    }

    [ProgramFact]
    public void A_file_that_is_no_kernel_is_refused() => Refused("-kernel", _files.Write("kernel", new byte[100_000]));

    [ProgramFact]
    public void A_BIOS_of_an_impossible_size_is_refused() => Refused("-bios", _files.Write("bios.bin", new byte[1000]));

    [ProgramFact]
    public void A_machine_that_does_not_exist_is_refused() => Refused("-machine", "pcc");

    [ImageFact]
    public void An_image_that_another_run_writes_to_is_refused()
    {
        using var elsewhere = new ScratchDirectory();
        string image = _files.MakeQcow2("disk.qcow2"), socket = elsewhere["monitor"];
        using GuestProcess holder = GuestProcess.Start("-S", "-display", "none", "-serial", "none", "-drive",
            $"file={image},if=virtio",
            "-monitor", $"unix:{socket},server=on,wait=off");
        using var monitor = new MonitorClient(socket);
        Refused("-drive", $"file={image},if=virtio");
        monitor.SendLine("quit");
        Assert.Equal(0, holder.WaitExit());
    }

    [ImageFact]
    public void An_image_that_qemu_io_writes_to_is_refused()
    {
        string image = _files.MakeQcow2("disk.qcow2");
        using GuestProcess holder = GuestProcess.StartOther("qemu-io", "-f", "qcow2", image);
        holder.Send("length\n");
        holder.Expect("64 MiB");
        Refused("-drive", $"file={image},if=virtio");
    }

    /// <returns>The line.</returns>
    string Refused(string option, string argument)
    {
        string before = _files.Describe();
        using GuestProcess program = GuestProcess.Start("-display", "none", "-serial", "none", option, argument);
        int code = program.WaitExit();
        string[] lines = program.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(code == 1 && lines.Length == 1, $"exit code {code}, errors:\n{program.Errors}");
        Assert.StartsWith("qkvm: ", lines[0], StringComparison.Ordinal);
        Assert.Contains(option, lines[0], StringComparison.Ordinal);
        Assert.Equal("", program.Output);
        Assert.Equal(before, _files.Describe());
        return lines[0];
    }
}
