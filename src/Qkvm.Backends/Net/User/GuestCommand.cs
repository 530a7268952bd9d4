using System.ComponentModel;
using System.Diagnostics;
using System.Net.Sockets;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>guestfwd=…-cmd: a program for each connection, which reads what the guest sends and whose output goes to
/// it.</summary>
static class GuestCommand
{
    const int MaxRunning = 64;

    static int s_running;

    /// <summary>Returns at once. A command that cannot run ends the connection.</summary>
    /// <param name="end">This one's from now on.</param>
    public static void Start(string command, RelaySocket end)
    {
        var handle = new SafeSocketHandle(end.Detach(), ownsHandle: true);
        _ = Task.Run(async () =>
        {
            using var socket = new Socket(handle);
            bool isAllowed = Interlocked.Increment(ref s_running) <= MaxRunning; // a guest may connect as it likes
            try
            {
                if (isAllowed) await RunAsync(command, socket).ConfigureAwait(false);
            }
            catch (IOException) { }                                // either side went first
            catch (SocketException) { }
            catch (Win32Exception e)
            {
                Console.Error.WriteLine($"guestfwd: {command}: {Programs.Reason(e)}");
            }
            finally { Interlocked.Decrement(ref s_running); }
        });
    }

    static async Task RunAsync(string command, Socket socket)
    {
        var start = new ProcessStartInfo("/bin/sh")
        {
            UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true,
        };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(command);
        using Process process = Programs.Start(start);
        await using var guest = new NetworkStream(socket);
        Task incoming = FeedAsync(guest, process.StandardInput.BaseStream);
        await process.StandardOutput.BaseStream.CopyToAsync(guest).ConfigureAwait(false);
        socket.Shutdown(SocketShutdown.Both);
        await incoming.ConfigureAwait(false);
        await process.WaitForExitAsync().ConfigureAwait(false);
    }

    static async Task FeedAsync(NetworkStream guest, Stream input)
    {
        await using (input.ConfigureAwait(false))
            try { await guest.CopyToAsync(input).ConfigureAwait(false); }
            catch (IOException) { }                                // the program does not want more
    }
}
