using System.Buffers.Binary;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.HyperV;

/// <summary>One of a processor's four synthetic timers, which count Hyper-V's time of 100 ns. Spec: TLFS 6.0b, section
/// 12.4.</summary>
/// <remarks>Deviation: a lazy timer is as punctual as any other.</remarks>
public sealed class SyntheticTimer
{
    // STIMERx_CONFIG
    const ulong Enabled = 1, Periodic = 2, AutoEnable = 8, Direct = 1 << 12;
    const int VectorAt = 4, SourceAt = 16;

    const uint Expired = 0x80000010;                               // message type
    const int NanosecondsPerTick = 100;

    // in ticks: between two expirations, whatever the guest asks for
    const ulong MinimumPeriod = 200;

    readonly int _index;
    readonly SynIc _synIc;
    readonly LocalApic _apic;
    readonly IVirtualClock _clock;
    readonly Func<ulong> _time;
    readonly IVmTimer _timer;
    ulong _configuration, _count, _due;
    bool _isWaiting;                                               // it has expired, and its slot is taken

    /// <param name="time">The processor's reference time.</param>
    public SyntheticTimer(int index, SynIc synIc, LocalApic apic, IVirtualClock clock, Func<ulong> time)
    {
        (_index, _synIc, _apic, _clock, _time) = (index, synIc, apic, clock, time);
        _timer = clock.CreateTimer(Expire);
    }

    int Source => (int)(_configuration >> SourceAt & 0xF);
    byte Vector => (byte)(_configuration >> VectorAt);
    bool IsDirect => (_configuration & Direct) != 0;

    /// <summary>STIMERx_CONFIG. Without a source and a vector of its own it cannot be enabled.</summary>
    public ulong Configuration
    {
        get => _configuration;
        set
        {
            _configuration = value;
            if (!IsDirect && Source == 0) _configuration &= ~Enabled;
            Start();
        }
    }

    /// <summary>STIMERx_COUNT: when it expires, or after how long each time. 0 stops it.</summary>
    public ulong Count
    {
        get => _count;
        set
        {
            _count = value;
            if (value == 0) _configuration &= ~Enabled;
            else if ((_configuration & AutoEnable) != 0) _configuration |= Enabled;
            if (!IsDirect && Source == 0) _configuration &= ~Enabled;
            Start();
        }
    }

    public void Reset()
    {
        (_configuration, _count, _due, _isWaiting) = (0, 0, 0, false);
        _timer.Cancel();
    }

    public void Exchange(StateStream state)
    {
        state.Field("configuration", ref _configuration);
        state.Field("count", ref _count);
        state.Field("due", ref _due);
        state.Field("waiting", ref _isWaiting);
        if (state.IsLoading) Arm();
    }

    /// <summary>The guest has taken a message.</summary>
    internal void TryAgain()
    {
        if (_isWaiting) Deliver();
    }

    void Start()
    {
        _isWaiting = false;
        bool isPeriodic = (_configuration & Periodic) != 0;
        _due = isPeriodic ? Later(_time(), Math.Max(_count, MinimumPeriod)) : _count;
        Arm();
    }

    void Arm()
    {
        if ((_configuration & Enabled) == 0 || _count == 0 || _isWaiting)
        {
            _timer.Cancel();
            return;
        }
        ulong now = _time(), wait = _due > now ? _due - now : 0;
        long at = wait > long.MaxValue / NanosecondsPerTick - (ulong)_clock.Nanoseconds / NanosecondsPerTick - 1
            ? long.MaxValue : _clock.Nanoseconds + (long)wait * NanosecondsPerTick;
        if (at == long.MaxValue) _timer.Cancel();
        else _timer.ArmAt(at);
    }

    void Expire()
    {
        if ((_configuration & Enabled) == 0) return;
        if ((_configuration & Periodic) == 0) _configuration &= ~Enabled;
        Deliver();
    }

    void Deliver()
    {
        _isWaiting = !TryDeliver();
        if (_isWaiting || (_configuration & (Enabled | Periodic)) != (Enabled | Periodic)) return;
        ulong now = _time(), period = Math.Max(_count, MinimumPeriod);
        // what was missed is missed
        _due = Later(_due, _due < now ? ((now - _due) / period + 1) * period : period);
        Arm();
    }

    /// <summary>HV_TIMER_MESSAGE_PAYLOAD: index, when it was due, when it comes.</summary>
    bool TryDeliver()
    {
        if (IsDirect)
        {
            if (Vector >= LocalApic.FirstLegalVector) _apic.Inject(Vector);
            return true;
        }
        Span<byte> payload = stackalloc byte[24];
        payload.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(payload, (uint)_index);
        BinaryPrimitives.WriteUInt64LittleEndian(payload[8..], _due);
        BinaryPrimitives.WriteUInt64LittleEndian(payload[16..], _time());
        return _synIc.Post(Source, Expired, payload);
    }

    static ulong Later(ulong time, ulong by) => time > ulong.MaxValue - by ? ulong.MaxValue : time + by;
}
