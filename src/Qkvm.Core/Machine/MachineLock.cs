namespace Qkvm.Core.Machine;

/// <summary>The one lock over register code, timers and interrupt lines. Re-entrant; never held across a system call
/// that can block.</summary>
public sealed class MachineLock
{
    readonly Lock _lock = new();

    public bool IsHeld => _lock.IsHeldByCurrentThread;

    public Scope Hold()
    {
        _lock.Enter();
        return new Scope(_lock);
    }

    public void Run(Action action)
    {
        using (Hold()) action();
    }

    public readonly ref struct Scope(Lock held)
    {
        public void Dispose() => held.Exit();
    }
}
