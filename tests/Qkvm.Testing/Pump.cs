using System.Collections.Concurrent;

namespace Qkvm.Testing;

/// <summary>A main loop for tests: what backends post runs when the test says so, on its thread.</summary>
public sealed class Pump
{
    // no assertion: the end of a test that would never end
    static readonly TimeSpan Hang = TimeSpan.FromSeconds(30);

    readonly BlockingCollection<Action> _posted = [];

    public void Post(Action work) => _posted.Add(work);

    /// <summary>Runs posted work until the condition holds.</summary>
    public void Until(Func<bool> condition)
    {
        while (!condition())
        {
            if (!_posted.TryTake(out Action? work, Hang))
                throw new TimeoutException("nothing more was posted, and the condition does not hold");
            work();
        }
    }

    /// <summary>Runs what has been posted by now.</summary>
    public void RunPosted()
    {
        while (_posted.TryTake(out Action? work)) work();
    }
}
