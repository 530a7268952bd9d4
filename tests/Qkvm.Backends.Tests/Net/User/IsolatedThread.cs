using System.Diagnostics;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>A thread in a network namespace of its own, where nothing is but a loopback interface: what it sends
/// disturbs nobody.</summary>
static partial class IsolatedThread
{
    /// <param name="work">Its argument: whether there is a namespace, for which one must be root.</param>
    public static void Run(Action<bool> work)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try { work(TryIsolate()); }
            catch (Exception e) { failure = e; }
        });
        thread.Start();
        thread.Join();
        if (failure != null) ExceptionDispatchInfo.Throw(failure);
    }

    static bool TryIsolate()
    {
        const int newNetwork = 0x40000000;
        if (unshare(newNetwork) != 0) return false;
        string own = $"--net=/proc/{Environment.ProcessId}/task/{gettid()}/ns/net";
        using Process up = Process.Start("nsenter", [own, "ip", "link", "set", "lo", "up"]);
        up.WaitForExit();
        return up.ExitCode == 0;
    }

    [LibraryImport("libc")]
    private static partial int unshare(int flags);

    [LibraryImport("libc")]
    private static partial int gettid();
}
