namespace Qkvm.Accel.Tcg;

/// <summary>One vCPU empties another's TLB, and goes on when nothing of it is used any more.</summary>
public sealed partial class Cpu
{
    int _flushesAsked, _flushesDone;

    /// <summary>In the midst of decoding: it waits for others, and then goes on with what it knew.</summary>
    volatile bool _isDecoding;

    /// <summary>By its own thread, between two instructions. Who sleeps or does not run is not waited for: it looks
    /// before it runs again. Meanwhile this one does what others ask of it, so that two may ask each other.</summary>
    void FlushOther(Cpu other)
    {
        if (other == this)
        {
            FlushTlb(global: true);
            return;
        }
        int ticket = other.AskForFlush();
        var spin = new SpinWait();
        StoresNothing();
        while (!other.HasFlushed(ticket))
        {
            StoresAgain();
            TookNotices();
            StoresNothing();
            spin.SpinOnce(sleep1Threshold: -1);
        }
        StoresAgain();
        TookNotices();
    }

    int AskForFlush()
    {
        int ticket = Interlocked.Increment(ref _flushesAsked);
        Interlocked.Or(ref _attention, CallNotice);                // nobody is woken for it
        return ticket;
    }

    bool HasFlushed(int ticket) =>
        Volatile.Read(ref _flushesDone) - ticket >= 0 || _storesNothing && !_isDecoding;

    void TakeFlushes()
    {
        int asked = Volatile.Read(ref _flushesAsked);
        if (asked == _flushesDone) return;
        FlushTlb(global: true);
        Volatile.Write(ref _flushesDone, asked);
    }
}
