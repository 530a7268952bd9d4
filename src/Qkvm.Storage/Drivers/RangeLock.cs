using System.Diagnostics.CodeAnalysis;

namespace Qkvm.Storage.Drivers;

/// <summary>Shared and exclusive locks over ranges of numbers, granted in the order of arrival. Waiting blocks no
/// thread.</summary>
sealed class RangeLock
{
    readonly Lock _lock = new();
    readonly LinkedList<Hold> _holds = [];                         // granted and waiting, oldest first
    readonly Stack<LinkedListNode<Hold>> _free = [];
    // of them; without any, nobody waits and nobody need look
    int _exclusive;

    /// <summary>Waits until no earlier conflicting range is held; the end is exclusive.</summary>
    public ValueTask<LinkedListNode<Hold>> AcquireAsync(long start, long end, bool exclusive)
    {
        lock (_lock)
        {
            LinkedListNode<Hold> node = NewHold(start, end, exclusive);
            Hold hold = node.Value;
            bool free = IsFree(hold, before: null);
            Add(node);
            if (free) return new ValueTask<LinkedListNode<Hold>>(node);
            hold.Waiter =
                new TaskCompletionSource<LinkedListNode<Hold>>(TaskCreationOptions.RunContinuationsAsynchronously);
            return new ValueTask<LinkedListNode<Hold>>(hold.Waiter.Task);
        }
    }

    /// <summary>A shared range, if nobody has to be waited for.</summary>
    public bool TryShare(long start, long end, [NotNullWhen(true)] out LinkedListNode<Hold>? held)
    {
        lock (_lock)
        {
            held = NewHold(start, end, exclusive: false);
            if (IsFree(held.Value, before: null))
            {
                Add(held);
                return true;
            }
            _free.Push(held);
            held = null;
            return false;
        }
    }

    public void Release(LinkedListNode<Hold> node)
    {
        lock (_lock)
        {
            Hold released = node.Value;
            LinkedListNode<Hold>? next = _exclusive == 0 ? null : node.Next;
            _holds.Remove(node);
            if (released.Exclusive) _exclusive--;
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

    LinkedListNode<Hold> NewHold(long start, long end, bool exclusive)
    {
        if (!_free.TryPop(out LinkedListNode<Hold>? node)) node = new LinkedListNode<Hold>(new Hold());
        Hold hold = node.Value;
        (hold.Start, hold.End, hold.Exclusive, hold.Waiter) = (start, end, exclusive, null);
        return node;
    }

    void Add(LinkedListNode<Hold> node)
    {
        _holds.AddLast(node);
        if (node.Value.Exclusive) _exclusive++;
    }

    bool IsFree(Hold hold, LinkedListNode<Hold>? before)
    {
        if (_exclusive == 0 && !hold.Exclusive) return true;
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
