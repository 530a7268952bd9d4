using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Core.Memory;

/// <summary>Which pages of guest RAM were written since they were collected last: by vCPUs, devices and monitors
/// alike.</summary>
/// <remarks>The first write to a page is noticed by <see cref="GuestRam.WatchedPage"/>, further ones cost nothing;
/// where the kernel runs the guest, it keeps the vCPUs' part itself. Made, collected and disposed of while the vCPUs
/// stand.</remarks>
public sealed class DirtyLog : IDisposable
{
    readonly IAccelerator _accelerator;
    readonly Dictionary<GuestRam, ulong[]> _pages = [];

    public DirtyLog(IEnumerable<GuestRam> blocks, IAccelerator accelerator)
    {
        _accelerator = accelerator;
        foreach (GuestRam ram in blocks)
        {
            _pages[ram] = new ulong[(ram.Size / GuestRam.PageSize + 63) / 64];
            ram.FlaggedPageWritten += OnWritten;
            ram.WatchAll(true);
        }
        accelerator.LogWrites(true);
    }

    /// <summary>Hands over the pages written since the last time, in ascending order, and begins anew.</summary>
    /// <param name="take">The block and the number of a page.</param>
    public void Collect(Action<GuestRam, ulong> take)
    {
        _accelerator.CollectWrites(Mark);
        foreach ((GuestRam ram, ulong[] words) in _pages)
            for (int i = 0; i < words.Length; i++)
            {
                ulong written = Interlocked.Exchange(ref words[i], 0);
                for (; written != 0; written &= written - 1)
                {
                    ulong page = (ulong)i * 64 + (ulong)System.Numerics.BitOperations.TrailingZeroCount(written);
                    ram.Watch(page, true);
                    take(ram, page);
                }
            }
    }

    public void Dispose()
    {
        _accelerator.LogWrites(false);
        foreach (GuestRam ram in _pages.Keys)
        {
            ram.FlaggedPageWritten -= OnWritten;
            ram.WatchAll(false);
        }
    }

    /// <summary>Any thread. Marked before the page's flag goes: who no longer sees the flag is marked
    /// already.</summary>
    void OnWritten(GuestRam ram, ulong offset, int length)
    {
        ulong page = offset / GuestRam.PageSize;
        Mark(ram, page);
        ram.Watch(page, false);
    }

    void Mark(GuestRam ram, ulong page)
    {
        if (_pages.TryGetValue(ram, out ulong[]? words)) Interlocked.Or(ref words[page / 64], 1UL << (int)(page % 64));
    }
}
