using Qkvm.Core.Block;
using Qkvm.Host;

namespace Qkvm.Hw.Storage;

/// <summary>Keeps a flash's drive as its memory is. One write is in flight at most; what changes meanwhile is written
/// after it, together.</summary>
/// <param name="failed">Hears, for a write that failed, what <see cref="Keep"/> was given.</param>
sealed class FlashStore(GuestRam memory, BlockBackend drive, Action<byte> failed) : BlockRequest
{
    const long Unit = Pflash.SectorSize;                           // drives want whole sectors

    long _from = long.MaxValue, _to;                               // what the drive has not yet; none: _from > _to
    byte _bits, _bitsInFlight;
    bool _mustGoOn;

    /// <summary>Something is not on the drive yet.</summary>
    public bool IsBusy { get; private set; }

    /// <summary>Bytes of the memory have changed. Under the machine lock, as all here.</summary>
    /// <param name="bits">What to tell if they cannot be written.</param>
    public void Keep(ulong offset, int length, byte bits)
    {
        Add((long)offset, (long)offset + length);
        _bits |= bits;
        if (IsBusy) _mustGoOn = true;
        else Start();
    }

    void Add(long from, long to) => (_from, _to) = (Math.Min(_from, from / Unit * Unit),
        Math.Max(_to, (to + Unit - 1) / Unit * Unit));

    void Start()
    {
        (Operation, Offset) = (BlockOperation.Write, _from);
        Buffers = new ScatterList(memory.Memory((ulong)_from, (int)(_to - _from)));
        (_from, _to, _bitsInFlight, _bits) = (long.MaxValue, 0, _bits, 0);
        (IsBusy, _mustGoOn) = (true, false);
        drive.Submit(this);
    }

    /// <summary>What failed is tried once more with the next change, and not before.</summary>
    public override void Complete(int errno)
    {
        if (errno != 0)
        {
            failed(_bitsInFlight);
            Add(Offset, Offset + Buffers.Length);
            _bits |= _bitsInFlight;
        }
        IsBusy = false;
        if (_mustGoOn) Start();
    }
}
