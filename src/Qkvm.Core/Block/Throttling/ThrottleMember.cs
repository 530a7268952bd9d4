namespace Qkvm.Core.Block.Throttling;

/// <summary>A disk in a <see cref="ThrottleGroup"/>, with its requests that wait. Under the group's lock.</summary>
sealed class ThrottleMember(ThrottleGroup group)
{
    readonly Queue<(BlockQueue Queue, BlockRequest Request)> _reads = new(), _writes = new();

    public ThrottleGroup Group { get; } = group;

    Queue<(BlockQueue Queue, BlockRequest Request)> Waiting(bool isWrite) => isWrite ? _writes : _reads;

    public bool IsWaiting(bool isWrite) => Waiting(isWrite).Count > 0;

    public void Add(bool isWrite, BlockQueue queue, BlockRequest request) => Waiting(isWrite).Enqueue((queue, request));

    public BlockRequest First(bool isWrite) => Waiting(isWrite).Peek().Request;

    /// <summary>The first of this direction goes on to its queue.</summary>
    public void Release(bool isWrite)
    {
        (BlockQueue queue, BlockRequest request) = Waiting(isWrite).Dequeue();
        queue.Release(request);
    }
}
