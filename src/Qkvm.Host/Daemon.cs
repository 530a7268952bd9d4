using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Qkvm.Host;

/// <summary>A process that leaves its terminal once it is ready: the one that was started starts itself again and waits
/// for a word, since a runtime with threads cannot fork.</summary>
/// <remarks>SAFETY: pipes and single bytes on the stack, for the time of one call.</remarks>
public static unsafe partial class Daemon
{
    const string Variable = "QKVM_DAEMON_PIPE";

    const int SetDescriptorFlags = 2, CloseOnExec = 1;

    static int s_pipe = -1, s_nothing = -1;

    /// <summary>At the start of the program. True: this process is to become the daemon, and somebody waits for
    /// <see cref="Ready"/>.</summary>
    public static bool Begin()
    {
        if (!int.TryParse(Environment.GetEnvironmentVariable(Variable), out int pipe)) return false;
        s_pipe = pipe;                                             // only now: a failed attempt would make it stdin
        Environment.SetEnvironmentVariable(Variable, null);
        Libc.FileFlags(s_pipe, SetDescriptorFlags, CloseOnExec);   // scripts that it runs are not awaited
        return true;
    }

    /// <summary>Starts the program again with the same arguments, and returns when it is ready or has failed; it has
    /// told the user why, on the same stderr.</summary>
    /// <returns>The exit code.</returns>
    public static int Launch(string[] arguments)
    {
        int* ends = stackalloc int[2];
        if (pipe2(ends, Libc.OCloexec) < 0) throw new HostException("cannot make a pipe", Libc.Errno);
        (int read, int write) = (ends[0], ends[1]);
        Libc.FileFlags(write, SetDescriptorFlags, 0);
        var start = new ProcessStartInfo("/proc/self/exe") { UseShellExecute = false };
        foreach (string argument in arguments) start.ArgumentList.Add(argument);
        start.Environment[Variable] = write.ToString(CultureInfo.InvariantCulture);
        using Process process = Process.Start(start) ?? throw new HostException("cannot start the daemon", 0);
        Libc.close(write);
        byte word;
        nint got;
        do got = Libc.read(read, &word, 1);
        while (got < 0 && Libc.Errno == Libc.EIntr);
        if (got == 1) return 0;
        process.WaitForExit();
        return process.ExitCode;
    }

    /// <summary>Leaves session and directory: while it still may, before it confines itself.</summary>
    public static void Detach()
    {
        if (s_pipe < 0) return;
        setsid();
        Environment.CurrentDirectory = "/";
        s_nothing = Libc.open("/dev/null", Libc.ORdWr | Libc.OCloexec, 0);
    }

    /// <summary>Leaves the terminal, and tells who waits.</summary>
    public static void Ready()
    {
        if (s_pipe < 0) return;
        for (int standard = 0; standard <= 2; standard++) dup2(s_nothing, standard);
        if (s_nothing > 2) Libc.close(s_nothing);
        byte word = 0;
        Libc.write(s_pipe, &word, 1);
        Libc.close(s_pipe);
        s_pipe = -1;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int pipe2(int* ends, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setsid();

    [LibraryImport("libc", SetLastError = true)]
    private static partial int dup2(int from, int to);
}
