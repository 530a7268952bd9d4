using System.Threading.Tasks.Sources;

namespace Qkvm.Storage.Drivers;

/// <summary>What a driver does when a request of its child has completed: an async method would allocate for each
/// request in flight.</summary>
/// <typeparam name="TStep">Its own type, whose objects are used again.</typeparam>
abstract class LoopStep<TStep> : IValueTaskSource where TStep : LoopStep<TStep>
{
    readonly Pool _home;
    ManualResetValueTaskSourceCore<bool> _source;

    protected LoopStep(Pool home) => _home = home;

    protected ValueTask Begin()
    {
        _source.Reset();
        return new ValueTask(this, _source.Version);
    }

    /// <param name="error">Null for success.</param>
    protected void End(Exception? error)
    {
        if (error == null) _source.SetResult(true);
        else _source.SetException(error);
    }

    void IValueTaskSource.GetResult(short token)
    {
        try { _source.GetResult(token); }
        finally { _home.Return((TStep)this); }
    }

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags) => _source.OnCompleted(continuation, state, token, flags);

    /// <summary>Steps of one driver, for all its loops.</summary>
    public sealed class Pool(Func<Pool, TStep> make)
    {
        readonly Lock _lock = new();
        readonly Stack<TStep> _free = new();

        public TStep Take()
        {
            lock (_lock)
                if (_free.TryPop(out TStep? step)) return step;
            return make(this);
        }

        public void Return(TStep step)
        {
            lock (_lock) _free.Push(step);
        }
    }
}
