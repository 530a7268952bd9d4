using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests.Network;

/// <summary>The tiny Linux guest with the drivers of all cards, whose shell does what a test says.</summary>
sealed partial class NetworkGuest : IDisposable
{
    readonly GuestProcess _process;
    int _said;                                                     // of the output, before the last command

    NetworkGuest(GuestProcess process)
    {
        _process = process;
        _process.Expect("TINY READY");
        // No echo, and a mark with the status behind what a line printed.
        _process.Send("exec sh -c 'stty -echo; while read -r line; do eval \"$line\"; echo \"<<$?>>\"; done'\n"
            + "echo on\n");
        _process.Expect("<<0>>");
        _said = _process.Output.Length;
    }

    /// <param name="emulator">The program, or QEMU.</param>
    public static NetworkGuest StartOther(NetworkNamespace place, string emulator, params string[] arguments) =>
        new(place.Start(emulator, [.. Common, .. arguments]));

    public static NetworkGuest Start(NetworkNamespace place, params string[] arguments) =>
        StartOther(place, Surroundings.Program, arguments);

    static string[] Common => ["-accel", "tcg", "-cpu", "max", "-m", "192", "-nodefaults", "-display", "none",
        "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsInitrd,
        "-append", "console=ttyS0 quiet panic=-1"];

    public GuestProcess Process => _process;

    /// <summary>Runs a shell's line in the guest, which must succeed.</summary>
    /// <returns>What it printed.</returns>
    public string Run(string line)
    {
        (int code, string output) = Try(line);
        Assert.True(code == 0, $"{line}: {code}\n{output}\n{_process.Errors}");
        return output;
    }

    /// <summary>The same for one that may fail.</summary>
    public (int Code, string Output) Try(string line)
    {
        Begin(line);
        return End();
    }

    /// <summary>Lets a line run meanwhile; <see cref="End"/> waits for it.</summary>
    public void Begin(string line) => _process.Send(line + "\n");

    public (int Code, string Output) End()
    {
        Match mark = _process.Expect(Mark(), _said);
        string output = _process.Output[_said..mark.Index];
        _said = mark.Index + mark.Length;
        return (int.Parse(mark.Groups[1].Value), output.Replace("\r", "", StringComparison.Ordinal));
    }

    public void PowerOff()
    {
        _process.Send("poweroff -f\n");
        Assert.Equal(0, _process.WaitExit());
    }

    public void Dispose() => _process.Dispose();

    [GeneratedRegex(@"<<(\d+)>>\r?\n")]
    private static partial Regex Mark();
}
