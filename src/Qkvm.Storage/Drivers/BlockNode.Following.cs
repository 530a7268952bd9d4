using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers;

/// <summary>Who is told of what is written. While there is somebody, writes take the way by worker threads.</summary>
public abstract partial class BlockNode
{
    readonly Lock _following = new();
    volatile IWriteObserver[] _observers = [];
    volatile DirtyBitmap[] _temporary = [];

    bool IsFollowed => _observers.Length > 0 || _temporary.Length > 0;

    public sealed override IReadOnlyList<DirtyBitmap> TemporaryBitmaps => _temporary;

    public sealed override void Follow(DirtyBitmap bitmap)
    {
        lock (_following) _temporary = [.. _temporary, bitmap];
    }

    public sealed override void Unfollow(DirtyBitmap bitmap)
    {
        lock (_following) _temporary = [.. _temporary.Where(one => one != bitmap)];
    }

    public sealed override void Follow(IWriteObserver observer)
    {
        lock (_following) _observers = [.. _observers, observer];
    }

    public sealed override void Unfollow(IWriteObserver observer)
    {
        lock (_following) _observers = [.. _observers.Where(one => one != observer)];
    }

    // Methods of their own, so that a write that nobody follows makes no closure.

    ValueTask WriteFollowedAsync(long offset, ScatterList buffers) =>
        FollowedAsync(offset, buffers.Length, () => StartWrite(offset, buffers));

    ValueTask WriteFuaFollowedAsync(long offset, ScatterList buffers) =>
        FollowedAsync(offset, buffers.Length, () => WriteFuaCore(offset, buffers));

    ValueTask DiscardFollowedAsync(long offset, long length) =>
        FollowedAsync(offset, length, () => DiscardCore(offset, length));

    ValueTask ZeroFollowedAsync(long offset, long length, bool mayUnmap) =>
        FollowedAsync(offset, length, () => WriteZeroesCore(offset, length, mayUnmap));

    async ValueTask FollowedAsync(long offset, long length, Func<ValueTask> change)
    {
        IWriteObserver[] observers = _observers;
        foreach (IWriteObserver observer in observers) await observer.BeforeAsync(offset, length).ConfigureAwait(false);
        try { await change().ConfigureAwait(false); }
        finally
        {
            foreach (DirtyBitmap bitmap in _temporary)
                if (bitmap.IsEnabled) bitmap.Set(offset, length);
            foreach (IWriteObserver observer in observers)
                await observer.AfterAsync(offset, length).ConfigureAwait(false);
        }
    }

    async ValueTask ResizeFollowedAsync(long length, Preallocation preallocation)
    {
        await ResizeCore(length, preallocation).ConfigureAwait(false);
        foreach (DirtyBitmap bitmap in _temporary) bitmap.Resize(length);
    }
}
