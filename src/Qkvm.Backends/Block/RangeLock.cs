namespace Qkvm.Backends.Block;

/// <summary>Shared and exclusive locks over ranges of numbers, granted in the order of arrival. Waiting blocks no
/// thread.</summary>
sealed class RangeLock
{
    readonly Lock _lock = new();
    readonly LinkedList<Hold> _holds = [];                         // granted and waiting, oldest first
    readonly Stack<LinkedListNode<Hold>> _free = [];

    /// <summary>Waits until no earlier conflicting range is held; the end is exclusive.</summary>
    public ValueTask<LinkedListNode<Hold>> AcquireAsync(long start, long end, bool exclusive)
    {
        lock (_lock)
        {
            if (!_free.TryPop(out LinkedListNode<Hold>? node)) node = new LinkedListNode<Hold>(new Hold());
            Hold hold = node.Value;
            (hold.Start, hold.End, hold.Exclusive, hold.Waiter) = (start, end, exclusive, null);
            bool free = IsFree(hold, before: null);
            _holds.AddLast(node);
            if (free) return new ValueTask<LinkedListNode<Hold>>(node);
            hold.Waiter =
                new TaskCompletionSource<LinkedListNode<Hold>>(TaskCreationOptions.RunContinuationsAsynchronously);
            return new ValueTask<LinkedListNode<Hold>>(hold.Waiter.Task);
        }
    }

    public void Release(LinkedListNode<Hold> node)
    {
        lock (_lock)
        {
            Hold released = node.Value;
            LinkedListNode<Hold>? next = node.Next;
            _holds.Remove(node);
            for (; next != null; next = next.Next)
            {
                Hold waiting = next.Value;
                if (waiting.Waiter == null || !waiting.Conflicts(released) || !IsFree(waiting, next)) continue;
                TaskCompletionSource<LinkedListNode<Hold>> waiter = waiting.Waiter;
                waiting.Waiter = null;
                waiter.SetResult(next);
            }
            _free.Push(node);
        }
    }

    bool IsFree(Hold hold, LinkedListNode<Hold>? before)
    {
        for (LinkedListNode<Hold>? earlier = _holds.First; earlier != before; earlier = earlier!.Next)
            if (earlier!.Value.Conflicts(hold)) return false;
        return true;
    }

    public sealed class Hold
    {
        internal long Start, End;
        internal bool Exclusive;
        internal TaskCompletionSource<LinkedListNode<Hold>>? Waiter;

        internal bool Conflicts(Hold other) => (Exclusive || other.Exclusive) && Start < other.End && other.Start < End;
    }
}
