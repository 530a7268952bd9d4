namespace Qkvm.Core.Machine;

/// <summary>The one lock over register code, timers and interrupt lines. Re-entrant; never held across a system call
/// that can block.</summary>
public sealed class MachineLock
{
    readonly Lock _lock = new();
    int _depth;                                                    // of the holder

    public bool IsHeld => _lock.IsHeldByCurrentThread;

    public Scope Hold()
    {
        _lock.Enter();
        _depth++;
        return new Scope(this);
    }

    public void Run(Action action)
    {
        using (Hold()) action();
    }

    /// <summary>Waits for other threads with the lock let go, however often this one holds it.</summary>
    public void RunReleased(Action wait)
    {
        int depth = IsHeld ? _depth : 0;
        for (int i = 0; i < depth; i++) Leave();
        try { wait(); }
        finally { for (int i = 0; i < depth; i++) Hold(); }
    }

    void Leave()
    {
        _depth--;
        _lock.Exit();
    }

    public readonly ref struct Scope(MachineLock held)
    {
        public void Dispose() => held.Leave();
    }
}
