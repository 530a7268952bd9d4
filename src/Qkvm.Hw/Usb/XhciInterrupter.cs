using Qkvm.Core.State;

namespace Qkvm.Hw.Usb;

/// <summary>Registers of an interrupter, and the producer's side of its event ring. xHCI 1.2, sections 4.9.4 and
/// 5.5.2.</summary>
sealed class XhciInterrupter
{
    public const uint Pending = 1, Enable = 2, HandlerBusy = 8;

    uint _management, _moderation, _segments;
    ulong _table, _dequeue;                                        // ERSTBA, ERDP
    ulong _ring;
    int _size, _index;                                             // in TRBs; 0: there is no ring
    bool _cycle = true;

    public ref uint Management => ref _management;
    public ref uint Moderation => ref _moderation;
    public ref uint Segments => ref _segments;
    public ref ulong Table => ref _table;
    public ref ulong Dequeue => ref _dequeue;

    public bool HasRing => _size > 0;

    /// <summary>Where the next event goes.</summary>
    public ulong At => _ring + (ulong)_index * XhciTrb.Size;
    public bool CycleState => _cycle;

    public void Start(ulong ring, int size) => (_ring, _size, _index, _cycle) = (ring, size, 0, true);

    /// <summary>Events that there is room for, beside the one place that stays empty.</summary>
    public int Room
    {
        get
        {
            if (_size == 0) return 0;
            ulong behind = (_dequeue & ~0xFul) - _ring;
            int consumer = behind < (ulong)_size * XhciTrb.Size ? (int)(behind / XhciTrb.Size) : _index;
            return (consumer - _index - 1 + _size) % _size;
        }
    }

    /// <summary>The driver has not seen all.</summary>
    public bool HasEvents => _size > 0 && (_dequeue & ~0xFul) != At;

    public void Advance()
    {
        if (++_index < _size) return;
        _index = 0;
        _cycle = !_cycle;
    }

    public void Reset()
    {
        (_management, _moderation, _segments, _table, _dequeue) = (0, 0, 0, 0, 0);
        Start(0, 0);
    }

    public void Exchange(StateStream state)
    {
        state.Field("iman", ref _management);
        state.Field("imod", ref _moderation);
        state.Field("erstsz", ref _segments);
        state.Field("erstba", ref _table);
        state.Field("erdp", ref _dequeue);
        state.Field("ring", ref _ring);
        state.Field("size", ref _size, 0, ushort.MaxValue);
        state.Field("index", ref _index, 0, Math.Max(0, _size - 1));
        state.Field("cycle", ref _cycle);
    }
}
