using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Nbd;

/// <summary>A client that uses its export: threads take turns in receiving, and who has received a request does it
/// while another receives the next.</summary>
/// <remarks>Threads are made when all that there are have something to do, up to a bound: so many requests of a client
/// wait for the disk at one time.</remarks>
sealed class NbdTransmission(NbdExport export, NbdServerHandshake agreed)
{
    const int MaxWorkers = 16;

    readonly Lock _turn = new();
    readonly object _count = new();
    int _workers, _waiting;
    volatile bool _hasEnded;

    public NbdExport Export => export;
    public BlockingSocket Socket => agreed.Socket;
    public NbdContexts Contexts => agreed.Contexts;
    public NbdReplies Replies { get; } = new(agreed.Socket, agreed.IsStructured);

    /// <summary>Serves until the client has gone and nothing of it is in flight.</summary>
    public void Run()
    {
        _workers = 1;
        Work();
        lock (_count)
            while (_workers > 0) Monitor.Wait(_count);
    }

    /// <summary>Waits for the turn to receive. False: there is no more to receive.</summary>
    public bool TakeTurn()
    {
        Interlocked.Increment(ref _waiting);
        _turn.Enter();
        Interlocked.Decrement(ref _waiting);
        if (!_hasEnded) return true;
        _turn.Exit();
        return false;
    }

    /// <summary>Gives the turn to another thread, which is made if need be.</summary>
    public void PassTurn()
    {
        if (Volatile.Read(ref _waiting) == 0) AddWorker();
        _turn.Exit();
    }

    /// <summary>The same where what was received took no time.</summary>
    public void EndTurn() => _turn.Exit();

    /// <summary>Nobody receives any more; what is in flight is answered if that is possible.</summary>
    public void End() => _hasEnded = true;

    void AddWorker()
    {
        lock (_count)
        {
            if (_workers == MaxWorkers) return;
            _workers++;
        }
        NbdSession.Thread(Work).Start();
    }

    void Work()
    {
        try { new NbdWorker(this).Run(); }
        catch (HostException)
        {
            End();
            Socket.HangUp();                                       // whoever receives hears of it
        }
        finally
        {
            lock (_count)
            {
                _workers--;
                Monitor.PulseAll(_count);
            }
        }
    }
}
