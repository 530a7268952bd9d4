using System.Diagnostics;

namespace Qkvm.Backends.Char;

/// <summary>Puts the terminal back when this program can no longer do it itself (kill -9, a crash): a shell that waits
/// for the end of a pipe that only this process holds open.</summary>
/// <remarks>SIGTTOU is ignored, since by then the shell is no longer in the terminal's foreground.</remarks>
sealed class TerminalKeeper : IDisposable
{
    readonly Process _shell;

    TerminalKeeper(Process shell) => _shell = shell;

    /// <summary>Call it before the terminal is changed. Null where there is no shell or no stty: then only orderly ends
    /// restore.</summary>
    /// <param name="farewell">What the terminal is sent then, too: control sequences in ASCII.</param>
    public static TerminalKeeper? Start(string farewell = "")
    {
        try
        {
            const string script = "trap '' TTOU INT TERM HUP; was=$(stty -g <&3) && echo ready && read end; stty " +
                "\"$was\" <&3; test -z \"$end\" && test -n \"$1\" && printf %s \"$1\" >&3";
            string[] words = ["-c", $"exec 3<>/dev/tty; {script}", "sh", farewell];
            var shell = Process.Start(new ProcessStartInfo("/bin/sh", words)
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            if (shell.StandardOutput.ReadLine() == "ready") return new TerminalKeeper(shell);
            shell.Dispose();
            return null;
        }
        catch (System.ComponentModel.Win32Exception) { return null; }
    }

    public void Dispose()
    {
        try
        {
            _shell.StandardInput.WriteLine("done");                // the farewell was said
            _shell.StandardInput.Close();
        }
        catch (IOException) { }                                    // it has gone with its terminal
        _shell.WaitForExit();
        _shell.Dispose();
    }
}
