using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Nbd;

/// <summary>One client of a server, from its first byte to its last, on threads of its own.</summary>
sealed class NbdSession
{
    const int StackSize = 256 << 10;

    readonly NbdServer _server;
    readonly StreamSocket _socket;
    readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <param name="socket">This object's own from now on.</param>
    public NbdSession(NbdServer server, StreamSocket socket)
    {
        (_server, _socket) = (server, socket);
        socket.SetNoDelay(true);
        Thread(Run).Start();
    }

    /// <summary>Completes when nothing of it is left.</summary>
    public Task Ended => _ended.Task;

    /// <summary>From any thread.</summary>
    public void HangUp() => _socket.HangUp();

    /// <summary>A thread of a session.</summary>
    public static Thread Thread(ThreadStart work) =>
        new(work, StackSize) { IsBackground = true, Name = "nbd" };

    void Run()
    {
        var handshake = new NbdServerHandshake(_server, _socket);
        bool wasServed = false;
        try
        {
            if (handshake.Run() is not { } export || !export.Join(this)) return;
            try
            {
                wasServed = true;
                new NbdTransmission(export, handshake).Run();
            }
            finally { export.Leave(this); }
        }
        catch (HostException) { }                                   // the client has gone, or is too slow
        finally
        {
            handshake.Dispose();
            _socket.Dispose();
            _ended.SetResult();
            _server.Left(this, wasServed);
        }
    }
}
